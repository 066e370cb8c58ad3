//! Trackers over HTTP and HTTPS.
//!
//! Every connection goes to an address that was judged: names are resolved by our own resolver,
//! literal addresses are judged before the request, redirects are followed by hand. Nothing is
//! taken from proxies in the environment, and a body is counted after decompression.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, header};

use super::resolve::{plain, resolve};
use crate::discovery::address::Policy;
use crate::discovery::fault::TrackerFault;
use crate::units::InfoHash;
use crate::wire::limits;
use crate::wire::tracker::http::{Answer, ScrapeAnswer};
use crate::wire::tracker::url::TrackerUrl;
use crate::wire::tracker::{Announce, Family, Reply, Swarm};

/// Redirects that are followed.
pub const REDIRECTS_MAX: usize = 5;

/// Trackers over HTTP in one family.
#[derive(Debug)]
pub struct HttpTrackers {
    family: Family,
    policy: Policy,
    timeout: Duration,
    plain: OnceLock<Result<Client, TrackerFault>>,
    tls: OnceLock<Result<Client, TrackerFault>>,
}

impl HttpTrackers {
    /// A client whose requests take at most `timeout` each, redirects included.
    #[must_use]
    pub fn new(family: Family, policy: Policy, timeout: Duration) -> Self {
        Self { family, policy, timeout, plain: OnceLock::new(), tls: OnceLock::new() }
    }

    /// Announces.
    ///
    /// # Errors
    /// Why there is no reply.
    pub async fn announce(
        &self,
        url: &TrackerUrl,
        announce: &Announce,
        tracker_id: Option<&[u8]>,
    ) -> Result<Reply, TrackerFault> {
        let (status, body) = self.get(&url.announce_url(announce, tracker_id)).await?;
        match Answer::parse(&body) {
            Ok(Answer::Reply(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(TrackerFault::Refused(refusal)),
            Err(fault) => Err(malformed(status, &fault)),
        }
    }

    /// Scrapes.
    ///
    /// # Errors
    /// Why there is no reply.
    pub async fn scrape(
        &self,
        url: &TrackerUrl,
        hashes: &[InfoHash],
    ) -> Result<BTreeMap<InfoHash, Swarm>, TrackerFault> {
        let (status, body) = self.get(&url.scrape_url(hashes)?).await?;
        match ScrapeAnswer::parse(&body) {
            Ok(ScrapeAnswer::Swarms(swarms)) => Ok(swarms),
            Ok(ScrapeAnswer::Refused(refusal)) => Err(TrackerFault::Refused(refusal)),
            Err(fault) => Err(malformed(status, &fault)),
        }
    }

    /// Fetches `url`: the last status and the body.
    async fn get(&self, url: &str) -> Result<(StatusCode, Vec<u8>), TrackerFault> {
        let seconds = self.timeout.as_secs();
        let fetched = tokio::time::timeout(self.timeout, self.follow(url)).await;
        fetched.unwrap_or(Err(TrackerFault::Timeout { seconds }))
    }

    async fn follow(&self, url: &str) -> Result<(StatusCode, Vec<u8>), TrackerFault> {
        let mut url = Url::parse(url).map_err(|e| TrackerFault::Io(e.to_string()))?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.request(url.clone()).await?;
            match redirect(&url, &response) {
                Some(next) => url = next?,
                None => return Ok((response.status(), body(response).await?)),
            }
        }
        Err(TrackerFault::Redirects { max: REDIRECTS_MAX })
    }

    async fn request(&self, url: Url) -> Result<Response, TrackerFault> {
        // The resolver is asked about names only, so literal addresses are judged here; port 0
        // and the scheme of a redirect too.
        let checked = TrackerUrl::parse_redirect(url.as_str())?;
        if url.domain().is_none() {
            resolve(&checked.host(), checked.port(), self.family, &self.policy).await?;
        }
        let client = self.client(url.scheme() == "https")?;
        client.get(url).send().await.map_err(|e| fault_of(&e))
    }

    /// The client for a scheme, built when it is first needed: a machine without certificates can
    /// still use plain trackers.
    fn client(&self, tls: bool) -> Result<&Client, TrackerFault> {
        let slot = if tls { &self.tls } else { &self.plain };
        slot.get_or_init(|| self.build(tls)).as_ref().map_err(Clone::clone)
    }

    fn build(&self, tls: bool) -> Result<Client, TrackerFault> {
        install_crypto();
        let resolver = Judged { family: self.family, policy: self.policy.clone() };
        let mut builder = ClientBuilder::new()
            .user_agent(concat!("btlive/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(resolver))
            .gzip(true)
            .http1_only()
            // Announces to one tracker are minutes apart: nothing to keep open.
            .pool_max_idle_per_host(0);
        if !tls {
            let roots = rustls::RootCertStore::empty();
            let config = rustls::ClientConfig::builder().with_root_certificates(roots);
            builder = builder.tls_backend_preconfigured(config.with_no_client_auth());
        }
        let what = if tls { "no HTTPS (are CA certificates installed?)" } else { "no HTTP" };
        builder.build().map_err(|e| TrackerFault::Io(format!("{what}: {}", chain(&e))))
    }
}

/// Makes ring the cryptography of rustls; once is enough, again is harmless.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Where a response leads, if it is a redirect.
fn redirect(from: &Url, response: &Response) -> Option<Result<Url, TrackerFault>> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    let bad = |why: String| TrackerFault::Malformed(format!("redirect: {why}"));
    let text = match location.to_str() {
        Ok(text) if text.len() <= 2 * limits::TRACKER_URL_LEN_MAX => text,
        Ok(text) => return Some(Err(bad(format!("location of {} bytes", text.len())))),
        Err(e) => return Some(Err(bad(e.to_string()))),
    };
    let next = from.join(text).map_err(|e| bad(e.to_string()));
    Some(next.and_then(|next| match (from.scheme(), next.scheme()) {
        ("https", "https") | ("http", "http" | "https") => Ok(next),
        (a, b) => Err(bad(format!("from {a} to {b}"))),
    }))
}

/// The body, decompressed, up to the limit.
async fn body(mut response: Response) -> Result<Vec<u8>, TrackerFault> {
    let max = limits::TRACKER_REPLY_LEN_MAX;
    let mut out = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| fault_of(&e))? {
        if out.len().saturating_add(chunk.len()) > max {
            return Err(TrackerFault::TooLong { max });
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out)
}

/// A status says more than what is wrong with an error page.
fn malformed(status: StatusCode, fault: &impl ToString) -> TrackerFault {
    if status == StatusCode::OK {
        TrackerFault::Malformed(fault.to_string())
    } else {
        TrackerFault::Http { status: status.as_u16() }
    }
}

/// The resolver's own fault if there is one in the chain, else the words of the chain.
fn fault_of(error: &reqwest::Error) -> TrackerFault {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(fault) = cause.downcast_ref::<TrackerFault>() {
            return fault.clone();
        }
        source = cause.source();
    }
    TrackerFault::Io(words(error))
}

/// The causes behind `error`, without its own line: that one repeats the URL, and with it passkeys.
fn chain(error: &reqwest::Error) -> String {
    let mut out = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        source = cause.source();
        // Which part of the HTTP library it was helps nobody who reads the cause.
        if source.is_some() && text.starts_with("client error (") {
            continue;
        }
        if !out.contains(&text) {
            out = if out.is_empty() { text } else { format!("{out}: {text}") };
        }
    }
    if out.is_empty() { "the request failed".to_owned() } else { out }
}

/// Words for a request that came to nothing: what the operating system said is enough by itself, a
/// library's words need to be told what they are about.
fn words(error: &reqwest::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<std::io::Error>() {
            Some(io) if io.raw_os_error().is_some() => return plain(io),
            _ => source = cause.source(),
        }
    }
    let what = if error.is_connect() { "no TLS with it" } else { "it sent no HTTP reply" };
    format!("{what}: {}", chain(error))
}

/// Resolves names to judged addresses of one family.
struct Judged {
    family: Family,
    policy: Policy,
}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let (family, policy) = (self.family, self.policy.clone());
        Box::pin(async move {
            // Only the address is judged here, so any port will do; the URL's replaces it.
            let mut addrs = resolve(name.as_str(), 80, family, &policy).await?;
            addrs.iter_mut().for_each(|addr| addr.set_port(0));
            Ok(Box::new(addrs.into_iter()) as Addrs)
        })
    }
}
