//! Redis behind a login, behind TLS, and on several machines.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use replay::RecordKind::{Event, Keyframe, Poses};
use server::redis::{Nodes, RoomKeys};

use crate::ids_in;
use crate::programs::{RedisServer, free_port};
use crate::site::{Site, object, until};

/// What docs/REDIS.md says that an account needs.
const RULES: &str = "resetkeys ~copresence:* resetchannels -@all +eval +xadd +xrange +xrevrange +xtrim +expireat \
                     +zadd +zrangebyscore +zremrangebyscore +hset +hdel +hscan +hmget";

async fn check_all(site: &mut Site, server: &RedisServer) {
    assert!(site.health().connected, "{:?}", site.health());
    site.make_room("a").await;
    site.put("a", object("1", 1)).await;
    site.put("a", object("2", 1)).await;
    site.delete("a", "2").await;
    for _ in 0..50 {
        site.write("a", &[Keyframe, Event, Poses]);
    }
    site.settled().await;
    site.check(|room| Some(ids_in(server, room))).await;
    let (at_ms, last) = (u64::MAX, site.reliable["a"].last().unwrap().0);
    let found = site.read(move |recordings| {
        server::replay::recordings::Recordings::keyframe_before(recordings, "a", at_ms)
    });
    assert!(found.await.unwrap().unwrap().id < last);
    let keys: Vec<String> = server.command(&["HKEYS", &RoomKeys::of("a").objects()]);
    assert_eq!(keys, ["1"]);
}

#[tokio::test]
async fn with_an_account_that_may_do_little() {
    let server = RedisServer::start(&[]);
    let mut words = vec!["ACL", "SETUSER", "someone", "on", ">pass@word"];
    words.extend(RULES.split(' '));
    server.command::<()>(&words);
    // Its password goes into the URL with its `@` encoded.
    let url = format!("redis://someone:pass%40word@127.0.0.1:{}", server.port);
    let mut site = Site::start(&url).await;
    check_all(&mut site, &server).await;

    let wrong = Site::start(&format!("redis://someone:hunter2@127.0.0.1:{}", server.port)).await;
    let health = wrong.health();
    assert!(!health.connected && !health.last_error.unwrap().contains("hunter2"));
}

#[tokio::test]
async fn in_a_database_of_its_own() {
    let server = RedisServer::start(&[]);
    let mut site = Site::start(&format!("{}/3", server.url())).await;
    site.write("a", &[Event]);
    site.settled().await;
    assert_eq!(server.command::<usize>(&["DBSIZE"]), 0);
    site.check(|_| None).await;
}

#[tokio::test]
async fn behind_tls() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (cert_path, key_path) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&cert_path, cert.pem()).unwrap();
    fs::write(&key_path, signing_key.serialize_pem()).unwrap();
    let (cert_path, key_path) = (cert_path.to_str().unwrap(), key_path.to_str().unwrap());
    let tls_port = free_port().to_string();
    let server = RedisServer::start(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        cert_path,
        "--tls-key-file",
        key_path,
        "--tls-ca-cert-file",
        cert_path,
        "--tls-auth-clients",
        "no",
    ]);
    let nodes = Nodes::parse(&format!("rediss://127.0.0.1:{tls_port}")).unwrap();
    let trusting = nodes.clone().with_authorities(Some(cert.pem().into_bytes()));
    let mut site = Site::with(tempfile::tempdir().unwrap(), trusting, u64::MAX).await;
    check_all(&mut site, &server).await;

    let doubting = Site::with(tempfile::tempdir().unwrap(), nodes, u64::MAX).await;
    assert!(!doubting.health().connected, "nobody vouches for it");
}

/// Three servers that share the slots.
fn cluster() -> Vec<RedisServer> {
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            RedisServer::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "2000",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--cluster-require-full-coverage",
                "no",
            ])
        })
        .collect();
    for (server, range) in servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
        server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", range.0, range.1]);
        let nodes: String = server.command(&["CLUSTER", "NODES"]);
        let address = nodes.split(' ').nth(1).unwrap().to_owned();
        let bus = address.split('@').nth(1).unwrap().split(',').next().unwrap().to_owned();
        let port = server.port.to_string();
        servers[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }
    servers
}

/// Makes the account that docs/REDIS.md describes.
fn let_in(server: &RedisServer) {
    let mut words = vec!["ACL", "SETUSER", "someone", "on", ">password"];
    words.extend(RULES.split(' ').chain(["+cluster|slots", "+info"]));
    server.command::<()>(&words);
}

async fn is_whole(servers: &[RedisServer]) {
    until(
        || "the cluster agrees".to_owned(),
        || {
            servers.iter().all(|server| {
                let info: String = server.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            })
        },
    )
    .await;
}

/// The server that has the slot of a room.
fn home(servers: &[RedisServer], room: &str) -> usize {
    let slot: u32 = servers[0].command(&["CLUSTER", "KEYSLOT", &RoomKeys::of(room).hours()]);
    (slot / 5_461).min(2) as usize
}

/// Every room's reliable records are on the node where they belong.
fn has_all(servers: &[RedisServer], site: &Site) -> bool {
    let is_whole = |(room, written): (&String, &Vec<_>)| {
        ids_in(&servers[home(servers, room)], room).len() == written.len()
    };
    site.reliable.iter().all(is_whole)
}

async fn check_cluster(servers: &[RedisServer], site: &Site) {
    until(|| "all records are where they belong".to_owned(), || has_all(servers, site)).await;
    site.settled().await;
    site.check(|room| Some(ids_in(&servers[home(servers, room)], room))).await;
}

#[tokio::test]
async fn on_a_cluster() {
    let mut servers = cluster();
    is_whole(&servers).await;
    let names: Vec<String> = (0..12).map(|number| format!("room {number}")).collect();
    servers.iter().for_each(let_in);
    // One node leads to the others.
    let mut site = Site::start(&format!("redis://someone:password@127.0.0.1:{}", servers[0].port)).await;
    assert!(site.health().connected, "{:?}", site.health());
    for name in &names {
        site.make_room(name).await;
        site.put(name, object("1", 1)).await;
    }
    for _ in 0..20 {
        names.iter().for_each(|name| site.write(name, &[Keyframe, Event, Poses]));
    }
    check_cluster(&servers, &site).await;
    let homes: std::collections::BTreeSet<_> = names.iter().map(|name| home(&servers, name)).collect();
    assert_eq!(homes.len(), 3, "every node has something");

    // A node that is away for a while.
    servers[1].kill();
    for _ in 0..20 {
        names.iter().for_each(|name| site.write(name, &[Event]));
        tokio::task::yield_now().await;
    }
    servers[1].restart();
    let_in(&servers[1]);
    is_whole(&servers).await;
    check_cluster(&servers, &site).await;

    // One that is emptied just before it is written to.
    servers[2].command::<()>(&["FLUSHALL"]);
    names.iter().for_each(|name| site.write(name, &[Event]));
    check_cluster(&servers, &site).await;

    // One that comes back empty while nothing is written to it.
    servers[0].command::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    servers[0].kill();
    std::fs::remove_dir_all(servers[0].directory.path().join("appendonlydir")).unwrap();
    servers[0].restart();
    let_in(&servers[0]);
    is_whole(&servers).await;
    check_cluster(&servers, &site).await;

    // A new machine that is told of all nodes.
    site.end().await;
    let nodes: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let other = Site::start(&format!("redis://{}", nodes.join(","))).await;
    for name in &names {
        assert_eq!(other.objects(name).await, [object("1", 1)]);
    }
}
