//! A prepared connection to the database. It is dropped as a whole once anything on it exceeds its
//! time limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use refinery::{Migration, Runner};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::settings::Settings;
use super::tables::Table;
use super::{Error, tls};

/// Key of the advisory lock that is held during migrations: "dats" in ASCII.
const MIGRATION_LOCK: i64 = 0x6461_7473;
/// Table in which the migration library records applied migrations.
const HISTORY_TABLE: &str = "dats_schema_history";
/// The migrations, each named `V<number>__<name>`, with a placeholder for the name of the records'
/// table.
const MIGRATIONS: [(&str, &str); 4] = [
    ("V1__initial", include_str!("../../migrations/V1__initial.sql")),
    ("V2__imported_taint_events", include_str!("../../migrations/V2__imported_taint_events.sql")),
    ("V3__ownership", include_str!("../../migrations/V3__ownership.sql")),
    ("V4__statements", include_str!("../../migrations/V4__statements.sql")),
];
/// The placeholder.
const TABLE_PLACE: &str = "{provenance_table}";
/// Added to the statement timeout before the client gives up on the connection.
const MARGIN: Duration = Duration::from_secs(5);

/// A connection that is ready for statements.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) settings: Arc<Settings>,
    pub(super) upserts: HashMap<Table, Statement>,
    /// Whether the database holds rejected rows.
    pub(super) has_rejects: bool,
    /// Existing columns as (table, column); only filled where the schema may be an older one.
    pub(super) known_columns: HashSet<(String, String)>,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Ends the connection, whatever is in progress on it.
        self.connection.abort();
    }
}

impl Session {
    /// Connects, migrates the schema and prepares the statements.
    pub(super) async fn open(settings: Arc<Settings>) -> Result<Self, Error> {
        let client_timeout = settings.client_timeout();
        let opened = async { Self::connect(settings).await?.prepare().await };
        match tokio::time::timeout(client_timeout, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Away(format!("the database did not answer within {} s", client_timeout.as_secs()))),
        }
    }

    /// Connects to read one consistent state of the database. The schema is not migrated and may be
    /// an older one.
    pub(super) async fn open_to_read(settings: Arc<Settings>) -> Result<Self, Error> {
        let client_timeout = settings.client_timeout();
        let opened = async {
            let mut session = Self::connect(settings).await?;
            let limit_ms = session.settings.statement_timeout.as_millis();
            // The store is filled between two statements, so idle transactions must be allowed.
            let prepare = format!(
                "SET statement_timeout = {limit_ms}; SET idle_in_transaction_session_timeout = 0; \
                 SET client_encoding = 'UTF8'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            );
            session.client.batch_execute(&prepare).await?;
            let sql = "SELECT table_name::text, column_name::text FROM information_schema.columns \
                       WHERE table_schema = ANY(current_schemas(false))";
            for row in session.client.query(sql, &[]).await? {
                session.known_columns.insert((row.try_get(0)?, row.try_get(1)?));
            }
            Ok(session)
        };
        match tokio::time::timeout(client_timeout, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Away(format!("the database did not answer within {} s", client_timeout.as_secs()))),
        }
    }

    /// Returns whether a table exists, for schemas that may be older.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.known_columns.iter().any(|(known, _)| known == table)
    }

    async fn prepare(mut self) -> Result<Self, Error> {
        let limit_ms = self.settings.statement_timeout.as_millis();
        let prepare = format!(
            "SET statement_timeout = {limit_ms}; SET idle_in_transaction_session_timeout = {limit_ms}; \
             SET client_encoding = 'UTF8'; SET client_min_messages = warning"
        );
        self.client.batch_execute(&prepare).await?;
        self.migrate().await?;
        for table in Table::ALL {
            let statement = self.client.prepare(&table.upsert(&self.settings.provenance_table)).await?;
            self.upserts.insert(table, statement);
        }
        let rejects = self.client.query_one("SELECT EXISTS (SELECT 1 FROM replication_rejects)", &[]).await?;
        self.has_rejects = rejects.try_get(0)?;
        Ok(self)
    }

    async fn connect(settings: Arc<Settings>) -> Result<Self, Error> {
        let config = settings.address.named("dats");
        let (client, connection) = config.connect(tls::connector(&settings.address)?).await?;
        let connection = tokio::spawn(async move {
            // The statement that meets the failure reports it too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        let session = Self {
            client,
            settings,
            upserts: HashMap::new(),
            has_rejects: false,
            known_columns: HashSet::new(),
            connection,
        };
        // First of all: no setting may be changed on a connection that others share.
        session.refuse_pooler().await?;
        session.refuse_encoding().await?;
        Ok(session)
    }

    /// Refuses a connection pooler that assigns connections by the transaction, because settings,
    /// prepared statements and the migration lock belong to a session. Such a pooler gives the same
    /// connection to two clients while neither is in a transaction.
    async fn refuse_pooler(&self) -> Result<(), Error> {
        let own = first_value(&self.client, "SELECT pg_backend_pid()").await?;
        let config = self.settings.address.named("dats");
        let (second, connection) = match config.connect(tls::connector(&self.settings.address)?).await {
            Ok(connected) => connected,
            // The database may allow a single connection only.
            Err(error) => {
                tracing::debug!(%error, "no second connection; skipping the check for a transaction pooler");
                return Ok(());
            }
        };
        let connection = tokio::spawn(connection);
        let other = first_value(&second, "SELECT pg_backend_pid()").await;
        connection.abort();
        if own.is_some() && own == other? {
            return Err(Error::Setup(
                "storage.database_url points to a connection pooler that assigns connections by the transaction, such as \
                 PgBouncer with pool_mode=transaction; the copy needs sessions of its own: name the database itself, or \
                 a pool with pool_mode=session"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses a database whose encoding can't hold every text; each affected row would be rejected
    /// one by one.
    async fn refuse_encoding(&self) -> Result<(), Error> {
        match first_value(&self.client, "SHOW server_encoding").await?.as_deref() {
            Some("UTF8") => Ok(()),
            found => Err(Error::Setup(format!(
                "the database has the encoding {}, which can't hold every text; it must be UTF8: create another with CREATE \
                 DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in storage.database_url",
                found.unwrap_or("unknown")
            ))),
        }
    }

    async fn migrate(&mut self) -> Result<(), Error> {
        let migrations: Result<Vec<Migration>, refinery::Error> = MIGRATIONS
            .iter()
            .map(|(name, sql)| Migration::unapplied(name, &sql.replace(TABLE_PLACE, &self.settings.provenance_table)))
            .collect();
        let mut runner = Runner::new(&migrations.map_err(migration_error)?);
        runner.set_migration_table_name(HISTORY_TABLE);
        self.client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let done = runner.run_async(&mut self.client).await;
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
        let done = done.map_err(migration_error)?;
        for migration in done.applied_migrations() {
            tracing::info!(%migration, "applied a schema migration");
        }
        Ok(())
    }

    /// Runs work on the connection with a time limit. The limit exceeds that of the database
    /// itself, so work that takes longer is on a connection that hangs.
    pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Slow(format!("the database did not answer within {} s", limit.as_secs()))),
        }
    }
}

/// Returns the first value of a statement without parameters as text, without preparing it.
async fn first_value(client: &Client, statement: &str) -> Result<Option<String>, Error> {
    let messages = client.simple_query(statement).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

impl Settings {
    /// Returns how long the client waits for a statement.
    pub(super) fn client_timeout(&self) -> Duration {
        self.statement_timeout.saturating_add(MARGIN)
    }
}

/// Classifies a failed migration by the database's message.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn migration_error(error: refinery::Error) -> Error {
    use refinery::error::Kind;
    match error.kind() {
        Kind::DivergentVersion(applied, _) => Error::Setup(format!(
            "the database was set up by another version of {applied}, or with another storage.provenance_table"
        )),
        Kind::MissingVersion(applied) => {
            Error::Setup(format!("the database was set up by a newer version, which has {applied}"))
        }
        Kind::Connection(_, cause) => match cause.downcast_ref::<tokio_postgres::Error>() {
            Some(cause) => Error::from(cause),
            None => Error::Setup(format!("the schema can't be migrated: {cause}")),
        },
        _ => Error::Setup(format!("the schema can't be migrated: {error}")),
    }
}
