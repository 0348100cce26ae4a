//! A connection to a Redis server or to a cluster of them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::time::timeout;

use super::nodes::Nodes;

/// How long a connection may take to come up, with TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer may take. A server that is paused, or a network that swallows packets, is away after this.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a cluster's client tries anew by itself. Few, so that we learn of an outage and check what is there.
const CLUSTER_RETRIES: u32 = 2;

/// A connection. Commands that are sent at the same time share it, one behind the other; clones are the same one.
///
/// That to a single server does not come back when it breaks: whoever has it learns of it, and looks what the server
/// still has before it goes on.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects to `nodes`; if there is one only, it is asked whether it is part of a cluster.
    pub(super) async fn connect(nodes: &Nodes) -> RedisResult<Self> {
        let connecting = Box::pin(async {
            if nodes.is_surely_cluster() {
                return Self::connect_cluster(nodes).await;
            }
            let single = Self::connect_single(nodes).await?;
            if is_of_cluster(&mut single.clone()).await {
                return Self::connect_cluster(nodes).await;
            }
            Ok(Self::Single(single))
        });
        timeout(CONNECT_TIMEOUT * 2, connecting).await.unwrap_or_else(|_| Err(timed_out()))
    }

    async fn connect_single(nodes: &Nodes) -> RedisResult<MultiplexedConnection> {
        let url = nodes.urls()[0].as_str();
        let client = match nodes.tls() {
            Some(tls) => Client::build_with_tls(url, tls.clone())?,
            None => Client::open(url)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn connect_cluster(nodes: &Nodes) -> RedisResult<Self> {
        let builder = ClusterClient::builder(nodes.urls().iter().map(String::as_str));
        let builder = match nodes.tls() {
            Some(tls) => builder.certs(tls.clone()),
            None => builder,
        };
        let client = builder
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(CLUSTER_RETRIES)
            .build()?;
        Ok(Self::Cluster(client.get_async_connection().await?))
    }

    /// What tells the masters of a cluster from others, and from themselves before a restart; nothing of a single
    /// server, whose restart breaks the connection, or if the account may not ask.
    pub(super) async fn servers(&mut self) -> RedisResult<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        if !self.is_single() {
            match redis::cmd("INFO").arg("server").query_async::<Value>(self).await {
                Ok(answers) => collect_ids(&answers, &mut ids),
                Err(error) if error.code() == Some("NOPERM") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }

    /// Whether it is one server: then everything sent is carried out in its order, and a restart breaks it.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }
}

/// An account that may not ask is on a server of its own, or its nodes are named.
async fn is_of_cluster(link: &mut MultiplexedConnection) -> bool {
    let info: RedisResult<String> = redis::cmd("INFO").arg("cluster").query_async(link).await;
    info.is_ok_and(|info| info.contains("cluster_enabled:1"))
}

fn collect_ids(answer: &Value, ids: &mut BTreeSet<String>) {
    let mut of_text = |text: &str| {
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        ids.extend(id.map(str::to_owned));
    };
    match answer {
        Value::BulkString(bytes) => of_text(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => of_text(text),
        Value::Array(answers) => answers.iter().for_each(|answer| collect_ids(answer, ids)),
        Value::Map(answers) => answers.iter().for_each(|(_, answer)| collect_ids(answer, ids)),
        _ => {}
    }
}

pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_single() { "Single" } else { "Cluster" })
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(link) => link.req_packed_command(cmd),
            // It bounds each attempt; this bounds all of them together.
            Self::Cluster(link) => async move {
                timeout(RESPONSE_TIMEOUT * 2, link.req_packed_command(cmd))
                    .await
                    .unwrap_or_else(|_| Err(timed_out()))
            }
            .boxed(),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}
