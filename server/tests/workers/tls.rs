//! Workers over https.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use server::workers::{BridgeSettings, Origin};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::worker::{Mode, Worker};
use crate::{Site, settings};

/// What stands before a worker and speaks TLS, as a platform's gateway does.
struct Gateway {
    address: SocketAddr,
    /// Its certificate, which it has signed itself.
    pem: String,
}

impl Gateway {
    /// A gateway to `worker` that calls itself `name`.
    async fn start(worker: &Worker, name: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind: SocketAddr = worker.url.trim_start_matches("http://").parse().unwrap();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), behind));
        Self { address, pem: cert.pem() }
    }

    /// A bridge to it that trusts `pem`.
    fn bridge(&self, pem: &str) -> BridgeSettings {
        let mut settings = settings(&[]);
        settings.workers.push(server::workers::WorkerSettings {
            name: "w0".to_owned(),
            origin: Origin::parse(&format!("https://{}", self.address)).unwrap(),
            secret: Some(server::config::Secret::new("hunter2")),
            timeout: None,
        });
        settings.authorities = Some(reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap());
        settings
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let mut inside = TcpStream::connect(behind).await.unwrap();
            // Ends badly when one of them is cut, which is no news.
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

#[tokio::test]
async fn a_worker_whose_certificate_is_trusted_does_tasks() {
    let worker = Worker::start(Mode::AfterPolls(2));
    let gateway = Gateway::start(&worker, "127.0.0.1").await;
    let site = Site::with(gateway.bridge(&gateway.pem)).await;
    let payload = json!("a".repeat(500_000));
    for _ in 0..3 {
        assert_eq!(site.run("ada", payload.clone()).await, Ok(payload.clone()));
    }
    assert!(worker.seen().tokens.iter().all(|token| token.as_deref() == Some("Bearer hunter2")));
    assert_eq!(site.status(0).url, format!("https://{}", gateway.address));
}

#[tokio::test]
async fn whoever_cannot_prove_who_it_is_is_told_nothing() {
    let worker = Worker::start(Mode::Echo);
    let here = Gateway::start(&worker, "127.0.0.1").await;
    let elsewhere = Gateway::start(&worker, "worker.example").await;
    for (gateway, pem) in [(&here, &elsewhere.pem), (&elsewhere, &elsewhere.pem)] {
        let site = Site::cold(gateway.bridge(pem));
        site.until("it is looked at", |site| site.status(0).last_error.is_some()).await;
        assert_eq!(site.status(0).last_error.unwrap().message, "cannot be reached");
        assert!(site.run("ada", json!("private")).await.is_err());
    }
    assert_eq!(worker.seen().calls.len(), 0, "neither a task nor the secret");
}
