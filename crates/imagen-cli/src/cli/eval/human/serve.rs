//! `imagen eval human serve`: the pages on an address of this machine, until Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use imagen::eval::human::{Mode, PlanOptions, RaterPlan, Study};
use imagen_server::listen::own_addresses;

use super::app::{App, app, is_gallery};
use super::store::Store;
use crate::cli::shared::one_of;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// How long open pages may take to end after Ctrl-C.
const LEAVE: Duration = Duration::from_secs(3);
/// Connections at once: each rater's browser opens a few.
const CONNECTIONS: usize = 256;

const EXAMPLES: &str = "\
Examples:
  imagen eval human serve studies/first
  imagen eval human serve studies/first --category Counting
  imagen eval human serve studies/coco --mode photorealism --port 0
  imagen eval human serve studies/first --host 0.0.0.0     # colleagues on the same network

Raters open the printed address, enter any name and answer with the arrow keys; the same name
goes on where it stopped. Votes are in STUDY/votes.sqlite, each on disk before the next page is
shown. Neither pages nor addresses nor pictures say which model drew what.";

/// Serve a study's pages to raters on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// The study's folder, made by `imagen eval drawbench`
    study: PathBuf,
    /// What is asked: two sets side by side; a model's picture beside its original; a picture and its caption
    #[arg(long, value_name = "MODE", value_parser = one_of::<Mode>(), default_value = "drawbench")]
    mode: Mode,
    /// Only prompts of this category; again for more. The paper ran one study for each
    #[arg(long, value_name = "NAME")]
    category: Vec<String>,
    /// Pages in a batch, after which a rest is offered
    #[arg(long, value_name = "N", default_value = "50")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    batch: usize,
    /// Control pages, whose right answer is known, for each ten pages of a batch
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(0..=10))]
    controls: usize,
    /// The address to listen at: 0.0.0.0 lets other machines in, which are otherwise kept out
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8064)]
    port: u16,
    /// A name by which browsers may call this machine, besides localhost, the address and the machine's own; again for more
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

impl Serve {
    pub(super) fn run(self) -> Result<()> {
        let study = Study::open(&self.study)?;
        let missing = study.missing(&self.study);
        if let Some(first) = missing.first() {
            let message = format!("{} lacks {} pictures, e.g. {first}", self.study.display(), missing.len());
            let hint = "finish it with the same `imagen eval drawbench` command";
            return Err(Failure::new(Exit::Data, message).hint(hint));
        }
        let options = PlanOptions { batch: self.batch, controls: self.controls, categories: self.category };
        // whether there is anything to ask is known before anybody comes; one set alone is shown and nothing asked
        if !is_gallery(&study, self.mode) {
            RaterPlan::of(&study, self.mode, "", &options)?;
        }
        let mut hosts = self.allow_host;
        hosts.push(self.host.to_string());
        let own = own_addresses();
        hosts.extend(own.iter().cloned());
        let outward = if self.host.is_unspecified() { own } else { Vec::new() };
        let store = Store::open(&self.study, &study.prompts)?;
        let state = Arc::new(App::new(self.study, study, self.mode, options, store, hosts));
        interrupt::watch("closing; every vote is on disk")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot start serving: {e}")))?;
        let served = runtime.block_on(listen(SocketAddr::new(self.host, self.port), &outward, state));
        runtime.shutdown_timeout(LEAVE);
        served
    }
}

async fn listen(address: SocketAddr, outward: &[String], state: Arc<App>) -> Result<()> {
    let failed = |verb: &str, e: std::io::Error| {
        let hint = "choose another --port (0 takes a free one) or --host";
        Failure::new(Exit::Runtime, format_args!("cannot {verb} {address}: {e}")).hint(hint)
    };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| failed("listen at", e))?;
    let bound = listener.local_addr().map_err(|e| failed("listen at", e))?;
    match outward {
        [] => print_line(format_args!("http://{bound}/"))?,
        _ => outward.iter().try_for_each(|name| print_line(format_args!("http://{name}:{}/", bound.port())))?,
    }
    Progress::new(false).note("open it in a browser; Ctrl-C stops");
    imagen_server::listen::serve(listener, app(state), CONNECTIONS, interrupt::requested).await;
    Ok(())
}
