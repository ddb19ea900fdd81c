//! A connection to the database: made, prepared, and given up as a whole as
//! soon as anything on it took too long.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use refinery::{Migration, Runner};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::settings::Settings;
use super::tables::Table;
use super::{Error, tls};

/// Who migrates holds this advisory lock: "dats" in ASCII.
const MIGRATION_LOCK: i64 = 0x6461_7473;
/// Where the migration library remembers what it has done.
const HISTORY_TABLE: &str = "dats_schema_history";
/// What has its table's name put in. The name of each is V<number>__<name>.
const MIGRATIONS: [(&str, &str); 4] = [
    ("V1__initial", include_str!("../../migrations/V1__initial.sql")),
    ("V2__imported_taint_events", include_str!("../../migrations/V2__imported_taint_events.sql")),
    ("V3__ownership", include_str!("../../migrations/V3__ownership.sql")),
    ("V4__statements", include_str!("../../migrations/V4__statements.sql")),
];
/// What is put in place of it.
const TABLE_PLACE: &str = "{provenance_table}";
/// Added to the time that the database is given, before the client gives up.
const MARGIN: Duration = Duration::from_secs(5);

/// A connection that is ready for statements.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) settings: Arc<Settings>,
    pub(super) upserts: HashMap<Table, Statement>,
    /// Whether the database keeps rejected rows.
    pub(super) has_rejects: bool,
    /// The columns that there are, by table; known only where the schema may be an older one.
    pub(super) known_columns: HashSet<(String, String)>,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nothing more is to happen on it, whatever is under way.
        self.connection.abort();
    }
}

impl Session {
    /// Connects, brings the schema up to date and prepares the statements.
    pub(super) async fn open(settings: Arc<Settings>) -> Result<Self, Error> {
        let patience = settings.patience();
        let opened = async { Self::connect(settings).await?.prepare().await };
        match tokio::time::timeout(patience, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Away(format!("no connection that answers within {} s", patience.as_secs()))),
        }
    }

    /// Connects to read one consistent state of the database, which stays as
    /// it is: the schema, too, be it an older one.
    pub(super) async fn open_to_read(settings: Arc<Settings>) -> Result<Self, Error> {
        let patience = settings.patience();
        let opened = async {
            let mut session = Self::connect(settings).await?;
            let limit_ms = session.settings.statement_timeout.as_millis();
            // The store is filled between two statements, which may take its time.
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
        match tokio::time::timeout(patience, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Away(format!("no connection that answers within {} s", patience.as_secs()))),
        }
    }

    /// Whether the database has a table, where its schema may be an older one.
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
            // Its error is also that of the statement that meets it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the database has ended");
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
        // First of all: nothing is to be set on a connection that others share.
        session.refuse_pooler().await?;
        session.refuse_encoding().await?;
        Ok(session)
    }

    /// Refuses an address that leads to a connection pooler which hands out its
    /// connections by the transaction: settings, prepared statements and the
    /// lock of the migrations belong to a session, which it does not keep. Such
    /// a pooler gives the same connection to two clients of which neither is in
    /// a transaction.
    async fn refuse_pooler(&self) -> Result<(), Error> {
        let own = first_value(&self.client, "SELECT pg_backend_pid()").await?;
        let config = self.settings.address.named("dats");
        let (second, connection) = match config.connect(tls::connector(&self.settings.address)?).await {
            Ok(connected) => connected,
            // The database may allow one connection alone.
            Err(error) => {
                tracing::debug!(%error, "no second connection to see whether a pooler shares them");
                return Ok(());
            }
        };
        let connection = tokio::spawn(connection);
        let other = first_value(&second, "SELECT pg_backend_pid()").await;
        connection.abort();
        if own.is_some() && own == other? {
            return Err(Error::Setup(
                "storage.database_url leads to a connection pooler that shares connections by the transaction, such as \
                 PgBouncer with pool_mode=transaction; the copy needs sessions of its own: name the database itself, or \
                 a pool with pool_mode=session"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses a database that can't hold all texts: each row that it could not
    /// hold would be rejected, one by one.
    async fn refuse_encoding(&self) -> Result<(), Error> {
        match first_value(&self.client, "SHOW server_encoding").await?.as_deref() {
            Some("UTF8") => Ok(()),
            found => Err(Error::Setup(format!(
                "the database has the encoding {}, and can't hold all texts; it must be UTF8: make another with CREATE \
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
        let mut runner = Runner::new(&migrations.map_err(of_migration)?);
        runner.set_migration_table_name(HISTORY_TABLE);
        self.client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let done = runner.run_async(&mut self.client).await;
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
        let done = done.map_err(of_migration)?;
        for migration in done.applied_migrations() {
            tracing::info!(%migration, "the database's schema was brought up to date");
        }
        Ok(())
    }

    /// Does something on the connection, and not longer than the database
    /// itself would: what takes longer is on a connection that hangs.
    pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Slow(format!("no answer of the database within {} s", limit.as_secs()))),
        }
    }
}

/// The first value that a statement without parameters gives, as text; nothing
/// is prepared for it.
async fn first_value(client: &Client, statement: &str) -> Result<Option<String>, Error> {
    let messages = client.simple_query(statement).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

impl Settings {
    /// How long the client waits for what the database may do.
    pub(super) fn patience(&self) -> Duration {
        self.statement_timeout.saturating_add(MARGIN)
    }
}

/// What went wrong with a migration, by what the database said of it.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_migration(error: refinery::Error) -> Error {
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
            None => Error::Setup(format!("the database's schema can't be made: {cause}")),
        },
        _ => Error::Setup(format!("the database's schema can't be made: {error}")),
    }
}
