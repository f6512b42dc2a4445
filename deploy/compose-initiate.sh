#!/usr/bin/env bash
# Creates the replica set of compose.yaml, its administrator, and the service's role and user. It may run again. It runs
# in the network of mongo1: only from there does MongoDB accept the first user of a set.
set -euo pipefail

ask() { mongosh --quiet "mongodb://127.0.0.1/${2:-}" --eval "$1"; }

ask '
  try {
    rs.initiate({ _id: "rs0", members: [1, 2, 3].map((n) => ({ _id: n, host: `mongo${n}:27017` })) })
  } catch (error) {
    if (!["AlreadyInitialized", "Unauthorized"].includes(error.codeName)) throw error
  }' "?directConnection=true"

until [ "$(ask 'db.hello().isWritablePrimary || (db.hello().primary ?? "") !== ""' '?directConnection=true')" = true ]; do
    sleep 1
done

# mongo1 called the first election. So mongo1 is the primary as long as there is no user.
ask '
  try {
    db.getSiblingDB("admin").createUser({ user: "admin", pwd: "demo-only", roles: ["root"] })
  } catch (error) {
    if (!/requires authentication|already exists|not authorized|not primary/i.test(error.message)) throw error
  }' "?directConnection=true"

set="mongodb://admin:demo-only@mongo1,mongo2,mongo3/?replicaSet=rs0&authSource=admin"
has_role=$(mongosh --quiet "$set" --eval 'db.getSiblingDB("admin").getRole("streamProcessor") !== null')
[ "$has_role" = true ] || mongosh --quiet "$set" --file /mongodb-role.js
mongosh --quiet "$set" --eval '
  const admin = db.getSiblingDB("admin")
  if (admin.getUser("stream-processor") === null)
    admin.createUser({
      user: "stream-processor", pwd: "demo-only", roles: [{ role: "streamProcessor", db: "admin" }],
    })'
echo "the replica set is ready"
