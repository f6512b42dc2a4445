//! A database for one test, on the MongoDB that all tests share; dropped when its value is.

use bson::Document;
use bson::doc;
use mongodb::{Client, Collection, Database};
use xtask::golden::TargetModel;
use xtask::mongod::{TestServer, unique_database_name};

/// The collections that the service reads, the recruiters first.
pub(crate) const SOURCES: [&str; 7] = [
    "recruiters",
    "anonymized_recruiters",
    "userswithaccounts",
    "anonymized_userswithaccounts",
    "cfas",
    "referentielromes",
    "referentiel_engagement_entreprise",
];

/// A new database, and the connection string of its server.
pub(crate) struct TestDatabase {
    pub uri: String,
    pub database: Database,
}

impl TestDatabase {
    /// A database with an empty collection `recruiters`, whose name begins with `prefix`.
    pub(crate) async fn create(prefix: &str) -> Self {
        let server = TestServer::obtain();
        Self::create_on(server.uri(), prefix).await
    }

    /// The same on another server, for instance a replica set that the test may break.
    pub(crate) async fn create_on(uri: &str, prefix: &str) -> Self {
        let test = Self::without_collections(uri, prefix).await;
        // Without it, the program refuses the database.
        test.database.create_collection("recruiters").await.expect("the database is new");
        test
    }

    /// A name without a collection.
    pub(crate) async fn without_collections(uri: &str, prefix: &str) -> Self {
        let client = Client::with_uri_str(uri).await.expect("the connection string is ours");
        let database = client.database(&unique_database_name(prefix));
        Self { uri: uri.to_owned(), database }
    }

    /// With the collections, validators and indexes of the live database.
    pub(crate) async fn with_live_schema(prefix: &str) -> Self {
        let test = Self::without_collections(TestServer::obtain().uri(), prefix).await;
        xtask::golden::create_collections(&test.database).await.expect("the schema is MongoDB's own language");
        test
    }

    /// A database with the live schema and the fields of the migration's plan in the validator of the target.
    pub(crate) async fn with_planned_schema(prefix: &str) -> Self {
        let test = Self::with_live_schema(prefix).await;
        let put = xtask::golden::put_target_validator(&test.database, TargetModel::Planned, "warn");
        put.await.expect("the schema is MongoDB's own language");
        test
    }

    /// Creates the indexes of the live target by which the service searches and which it does not create itself.
    pub(crate) async fn create_platform_indexes(&self) {
        let index = |key: Document| doc! { "name": key.to_string(), "key": key };
        let statuses = doc! { "offer_status": 1, "partner_label": 1 };
        let indexes = [doc! { "partner_label": 1 }, statuses, doc! { "offer_expiration": 1 }].map(index).to_vec();
        self.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": indexes }).await.unwrap();
    }

    pub(crate) fn name(&self) -> &str {
        self.database.name()
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (uri, name) = (self.uri.clone(), self.database.name().to_owned());
        // A runtime of its own: the test's may be ending, and a drop cannot wait in it.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { Client::with_uri_str(uri).await?.database(&name).drop().await })
        });
        // A server that the test has broken keeps its database; it goes with the server.
        let _: Result<mongodb::error::Result<()>, _> = cleaner.join();
    }
}
