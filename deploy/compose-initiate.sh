#!/usr/bin/env bash
# Makes the replica set of compose.yaml, its administrator, and the service's role and user. May be run again. Runs in
# the network of mongo1: only from there may a set without users be given its first one.
set -euo pipefail

ask() { mongosh --quiet "mongodb://127.0.0.1/${2:-}" --eval "$1"; }

ask '
  try { rs.status() } catch (error) {
    if (error.codeName === "NotYetInitialized")
      rs.initiate({ _id: "rs0", members: [1, 2, 3].map((n) => ({ _id: n, host: `mongo${n}:27017` })) })
    else if (error.codeName !== "Unauthorized") throw error
  }' "?directConnection=true"

until [ "$(ask 'db.hello().isWritablePrimary || (db.hello().primary ?? "") !== ""' '?directConnection=true')" = true ]; do
    sleep 1
done

# mongo1 has called the first election, and so is the primary when there is no user yet.
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
