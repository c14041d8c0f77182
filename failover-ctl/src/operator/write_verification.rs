//! Last step of a promotion: a write over a client's connection.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::failover::plan::FailoverPlan;
use causeway_runtime::postgres::{self, RootCertificates};
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use tokio::time;

use crate::clients::dns_resolver;
use crate::config::NodeSettings;
use crate::operator::plan_executor::PlanExecutor;
use crate::output;

/// Timeout of the connection and its two statements.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

const CONFIRM_TABLE: &str = "create table if not exists causeway_confirmation \
                             (promotion text primary key, at timestamptz not null)";
const CONFIRM: &str = "insert into causeway_confirmation (promotion, at) values ($1, clock_timestamp()) \
                       on conflict (promotion) do update set at = excluded.at returning at::text";
const CONFIRMED: &str = "select at::text from causeway_confirmation where promotion = $1";

impl PlanExecutor<'_> {
    /// Writes a row and reads it back, by the writer's DNS name if it resolves to the node, else by the node's address.
    pub(super) async fn confirm(&self, plan: &FailoverPlan, host: &str) -> anyhow::Result<String> {
        let settings = self
            .settings
            .verify_write
            .as_ref()
            .context("no `[verify-write]` in the settings")?;
        let node = self.node(&plan.to)?;
        let (host, address) = self.choose_endpoint(host, node).await?;
        let password = Secret::from_file(&settings.password_file)?;
        let mut config = tokio_postgres::Config::new();
        config
            .host(&host)
            .port(node.port)
            .user(&settings.user)
            .password(password.reveal())
            .dbname(&settings.database)
            .application_name("failover-ctl promote")
            .ssl_mode(settings.sslmode.on_the_wire());
        if let Some(address) = address {
            config.hostaddr(address);
        }
        let root_cert = settings.sslrootcert.clone().map(RootCertificates::File);
        let tls = postgres::tls(settings.sslmode, root_cert.as_ref())?;
        let tasks = Tasks::new();
        // The table is where the role's clients find it.
        let client = postgres::connect_as_client(&config, tls, WRITE_TIMEOUT, &tasks)
            .await
            .with_context(|| format!("could not connect to `{host}` as a client would"))?;
        let writing = async {
            client.batch_execute(CONFIRM_TABLE).await?;
            let key = format!("epoch {}", plan.planned_epoch.next());
            let row = client.query_one(CONFIRM, &[&key]).await?;
            let written: String = row.try_get(0)?;
            let row = client.query_one(CONFIRMED, &[&key]).await?;
            let read: String = row.try_get(0)?;
            anyhow::Ok((written, read))
        };
        let (written, read) = time::timeout(WRITE_TIMEOUT, writing)
            .await
            .context("the row was not written in time")??;
        if written != read {
            bail!("a row was written at {written}, and read back as of {read}");
        }
        Ok(format!(
            "a row was written through `{host}` at {written} and read back"
        ))
    }

    /// Returns the host to connect to, and its address if the resolver returned one.
    async fn choose_endpoint(
        &self,
        host: &str,
        node: &NodeSettings,
    ) -> anyhow::Result<(String, Option<IpAddr>)> {
        let own: Result<IpAddr, _> = node.address.parse();
        if host == node.address {
            return Ok((host.to_owned(), None));
        }
        let resolver = self.settings.dns.as_ref().and_then(|dns| dns.resolver);
        let found = dns_resolver::addresses(host, resolver).await;
        match (found, own) {
            (Ok(found), Ok(own)) if found.contains(&own) => Ok((host.to_owned(), Some(own))),
            (Ok(found), Err(_)) => {
                let first = *found.first().context("the name has no address")?;
                Ok((host.to_owned(), Some(first)))
            }
            (found, _) => {
                let found = found.map_or_else(
                    |error| format!("{error:#}"),
                    |addresses| format!("{addresses:?}"),
                );
                output::print_progress(&format!(
                    "   `{host}` does not lead to `{}` yet ({found}), so the write is verified at the node",
                    node.name
                ));
                Ok((node.address.clone(), None))
            }
        }
    }
}
