//! Servers that must not be trusted, the one that a bundle makes trusted, and the proxy on the way
//! to one.
//!
//! Owns the certificates: made here, each wrong in one way. In every case nothing may arrive,
//! nothing may be charged, and the message gives the reason.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use conjured::domain::job::JobState;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::support::{
    service::TOKEN,
    stage::DemoProject,
    tunnel::{Port, Speaks, Tunnel},
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has its own name, as authorities have.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Creates a server that shows a certificate for `name`, changed as the test needs.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Speaks {
        Speaks::Tls(self.side(name, change))
    }

    fn side(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        Arc::new(config)
    }

    fn bundle(&self, stage: &DemoProject) -> PathBuf {
        let path = stage.path("bundle.pem");
        fs::write(&path, self.0.pem()).expect("writes");
        path
    }
}

fn tunnel(stage: &DemoProject, speaks: Speaks) -> Tunnel {
    let service = stage.service.api_url().replace("http://", "").parse().expect("an address");
    Tunnel::open(Port::closed(), service, speaks)
}

/// Sends one job through the tunnel; returns the messages.
fn once(stage: &mut DemoProject, speaks: Speaks, bundle: &PathBuf) -> String {
    let tunnel = tunnel(stage, speaks);
    stage.set("serverless.api_url", &format!("\"https://localhost:{}\"", tunnel.address.port()));
    let mut command = stage.command(&["once", "--prompt", "a clay owl"]);
    command.env("SSL_CERT_FILE", bundle);
    // A proxy from the environment must not be used for this machine.
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    let output = command.output().expect("runs");
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn refuses(speaks: impl FnOnce(&Authority) -> Speaks, trusted: bool, words: &[&str]) {
    let (authority, mut stage) = (Authority::new(), DemoProject::new());
    let known = if trusted { &authority } else { &Authority::new() };
    let bundle = known.bundle(&stage);
    let said = once(&mut stage, speaks(&authority), &bundle);
    for message in words {
        assert!(said.contains(message), "{message:?} is not in: {said}");
    }
    assert!(said.contains("nothing was charged"), "{said}");
    let jobs = stage.jobs();
    assert_eq!(jobs.last().map(|job| job.state), Some(JobState::Failed), "{said}");
    assert_eq!(stage.service.stats().submits, 0, "nothing arrived");
}

#[test]
fn a_bundle_of_ones_own_is_trusted_and_the_proxy_is_not_asked_for_this_machine() {
    let (authority, mut stage) = (Authority::new(), DemoProject::new());
    let bundle = authority.bundle(&stage);
    let said = once(&mut stage, authority.server("localhost", |_| {}), &bundle);
    assert_eq!(stage.ended(1)[0].state, JobState::Done, "{said}");
    assert_eq!(stage.submits(), 1);
}

#[test]
fn an_expired_certificate_is_refused_and_its_day_is_told() {
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 3, 4);
    refuses(|own| own.server("localhost", expired), true, &["localhost expired on 2021-03-04"]);
}

#[test]
fn a_certificate_of_the_future_is_refused_and_the_clock_is_named() {
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2088, 1, 1);
    refuses(|own| own.server("localhost", future), true, &["valid only from 2088-01-01", "clock"]);
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    refuses(|own| own.server("api.runcomfy.net", |_| {}), true, &["is for another name"]);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_the_bundle_is_named() {
    refuses(|own| own.server("localhost", |_| {}), false, &["does not trust", "SSL_CERT_FILE"]);
}

#[test]
fn a_port_that_speaks_plain_http_or_an_old_tls_is_never_spoken_to_in_the_clear() {
    let http = Speaks::Bytes(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    refuses(|_| http, true, &["does not speak TLS"]);
    // The alert `protocol_version`, as a server that knows only TLS 1.0 sends it.
    refuses(|_| Speaks::Bytes(b"\x15\x03\x01\x00\x02\x02\x46"), true, &["1.2 or 1.3"]);
}

#[test]
fn an_empty_or_missing_bundle_trusts_nobody() {
    let (authority, mut stage) = (Authority::new(), DemoProject::new());
    fs::write(stage.path("empty.pem"), "").expect("writes");
    for bundle in [stage.path("empty.pem"), stage.path("there-is-none.pem")] {
        let said = once(&mut stage, authority.server("localhost", |_| {}), &bundle);
        assert!(said.contains("nothing was charged"), "{said}");
        assert!(said.contains("SSL_CERT_FILE"), "{said}");
    }
    assert_eq!(stage.submits(), 0);
}

#[test]
fn a_folder_of_authorities_is_trusted_too() {
    let (authority, mut stage) = (Authority::new(), DemoProject::new());
    let folder = stage.path("authorities");
    fs::create_dir(&folder).expect("makes");
    // The form of name that `openssl rehash` gives; others are not read.
    fs::copy(authority.bundle(&stage), folder.join("0a1b2c3d.0")).expect("copies");
    let tunnel = tunnel(&stage, authority.server("localhost", |_| {}));
    stage.set("serverless.api_url", &format!("\"https://localhost:{}\"", tunnel.address.port()));
    let mut command = stage.command(&["once", "--prompt", "a clay owl"]);
    let output = command.env("SSL_CERT_DIR", &folder).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stage.submits(), stage.accepted()), (1, 1));
}

/// A host beyond this machine that no name server knows: only a proxy can reach it.
const FAR: &str = "api.conjured.invalid";

/// Sends one job to [`FAR`] through a proxy; returns the result, and the proxy's requests.
fn once_by_proxy(
    stage: &mut DemoProject,
    authority: &Authority,
    behind: Option<Arc<ServerConfig>>,
) -> (std::process::Output, Vec<String>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxy = tunnel(stage, Speaks::Proxy { asked: Arc::clone(&asked), behind });
    stage.set("serverless.api_url", &format!("\"https://{FAR}\""));
    let mut command = stage.command(&["once", "--prompt", "a clay owl"]);
    command.env("SSL_CERT_FILE", authority.bundle(stage));
    command.env("HTTPS_PROXY", format!("http://{}", proxy.address));
    let output = command.output().expect("runs");
    let asked = asked.lock().expect("no panic").clone();
    (output, asked)
}

#[test]
fn a_proxy_leads_to_a_far_host_as_a_tunnel_and_sees_neither_token_nor_picture() {
    let (authority, mut stage) = (Authority::new(), DemoProject::new());
    let behind = authority.side(FAR, |_| {});
    let (output, asked) = once_by_proxy(&mut stage, &authority, Some(behind));
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stage.submits(), stage.accepted()), (1, 1));
    assert!(!asked.is_empty());
    for head in asked {
        // The downloads of this test come from this machine, and never reach the proxy.
        assert!(head.starts_with(&format!("CONNECT {FAR}:443 HTTP/1.1\r\n")), "{head}");
        assert!(!head.contains(TOKEN) && !head.to_lowercase().contains("bearer"), "{head}");
    }
}

#[test]
fn a_proxy_that_refuses_or_shows_its_own_certificate_is_given_nothing() {
    let (authority, stranger, mut stage) = (Authority::new(), Authority::new(), DemoProject::new());
    for behind in [None, Some(stranger.side(FAR, |_| {}))] {
        let (output, asked) = once_by_proxy(&mut stage, &authority, behind);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains("nothing was charged"), "{said}");
        assert!(asked.iter().all(|head| head.starts_with("CONNECT ")), "{asked:?}");
    }
    assert_eq!(stage.submits(), 0);
}
