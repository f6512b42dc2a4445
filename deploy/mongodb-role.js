// The role of the service, with the least privileges. Run this file once, as a user administrator:
//
//   mongosh 'mongodb://admin@host/?authSource=admin' --file deploy/mongodb-role.js
//
// Then give the role to the service's user:
//
//   db.getSiblingDB("admin").createUser({ user: "stream-processor", pwd: passwordPrompt(),
//       roles: [{ role: "streamProcessor", db: "admin" }] })
//
// If the database has another name, replace "labonnealternance" below. While `setup` runs, the user also needs the role
// dbAdmin, and insert, update and remove on stream_processor_setup. The privileges from stream_processor_job_runs on are for
// the time-based jobs: without them, set ticker.enabled = false. Keep those on the oplog all the same, and those on
// recruiters, which the mirror needs too. A change stream of a database needs `find` on the whole database (MongoDB manual, "Change
// Streams", "Access Control"). The definition is JSON, and a test starts the service under exactly this role.
const role =
{
    "role": "streamProcessor",
    "privileges": [
        { "resource": { "db": "labonnealternance", "collection": "" },
          "actions": ["find", "changeStream", "listCollections"] },

        { "resource": { "db": "labonnealternance", "collection": "jobs_partners" },
          "actions": ["insert", "update", "listIndexes"] },

        { "resource": { "db": "labonnealternance", "collection": "stream_processor_state" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_checkpoints" },
          "actions": ["insert", "update", "remove", "createIndex", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_links" },
          "actions": ["insert", "update", "remove", "createIndex", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_dead_letters" },
          "actions": ["insert", "update", "remove", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_commands" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_gaps" },
          "actions": ["insert", "update"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_events" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_signals" },
          "actions": ["update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_instances" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_foreign_writes" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_canary" },
          "actions": ["insert", "update"] },
        { "resource": { "db": "labonnealternance", "collection": "resumetokens" },
          "actions": ["insert", "update"] },

        { "resource": { "db": "labonnealternance", "collection": "stream_processor_job_runs" },
          "actions": ["insert", "update", "remove", "createIndex", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "stream_processor_outbox" },
          "actions": ["insert", "update", "createIndex"] },
        { "resource": { "db": "labonnealternance", "collection": "recruiters" },
          "actions": ["insert", "update", "remove"] },
        { "resource": { "db": "labonnealternance", "collection": "userswithaccounts" },
          "actions": ["remove", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "rolemanagements" },
          "actions": ["remove", "listIndexes"] },
        { "resource": { "db": "labonnealternance", "collection": "anonymized_recruiters" },
          "actions": ["insert", "update"] },
        { "resource": { "db": "labonnealternance", "collection": "anonymized_userswithaccounts" },
          "actions": ["insert", "update"] },
        { "resource": { "db": "labonnealternance", "collection": "cache_siret" },
          "actions": ["listIndexes"] },

        { "resource": { "db": "local", "collection": "oplog.rs" },
          "actions": ["find", "collStats"] }
    ],
    "roles": []
};

db.getSiblingDB("admin").createRole(role);
