//! `imagen serve`: the studio on an address of this machine, until Ctrl-C.
//!
//! The server is `imagen-server`'s; here it is lent its models, told what a picture says about itself, and given an address.

mod evals;
mod log;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use imagen::cascade::{Imagen, Remarks, Request};
use imagen::nn::device::Found;
use imagen::train::BUILT_IN;
use imagen::{Error, ErrorKind};
use imagen_server::listen::{own_addresses, serve};
use imagen_server::{Began, Description, Evaluations, Finished, Lender, Limits, Model, Options, Pace, Server};

use self::log::Log;
use super::draw::{MACHINE, ModelArgs, OpenModel, describe, flags};
use super::plan::training_rate;
use super::sample::between;
use super::shared::Machine;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::{ModelRecord, StartRecord, digest};
use crate::output::shell;
use crate::progress::Progress;
use crate::system;

/// Connections at once: each browser opens a few, and a stream of events keeps one.
const CONNECTIONS: usize = 1024;
/// How long what is being answered may take to end after Ctrl-C.
const LEAVE: Duration = Duration::from_secs(3);
/// The fewest characters of a token.
const TOKEN: usize = 12;

const EXAMPLES: &str = "\
Examples:
  imagen serve --open
  imagen serve --model models/mine --model built-in
  IMAGEN_TOKEN=$(openssl rand -hex 16) imagen serve --host 0.0.0.0     # others on the same network

Pictures and their settings are kept in --data. The page needs nothing from elsewhere; programs
find the API at /api/v1.";

const WHERE: &str = "Where";

/// Prompts to begin with, of the built-in model and of one that does not remember its captions.
const EXAMPLES_TO_DRAW: [&str; 6] =
    ["a red apple", "a grinning cat", "a sunflower", "a blue book", "a rocket", "a slice of pizza"];
/// Characters of a caption that fits on a button.
const ON_A_BUTTON: usize = 40;

/// Serve the studio: a page to draw with, and an API
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// A model folder, or a pulled OWNER/NAME; again for more; `built-in` by default
    #[arg(short, long, value_name = "FOLDER|NAME", help_heading = MACHINE)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// The folder of pictures and jobs; ~/.local/share/imagen by default
    #[arg(long, value_name = "FOLDER", help_heading = WHERE)]
    data: Option<PathBuf>,
    /// A folder of training runs, to be watched on the page
    #[arg(long, value_name = "FOLDER", help_heading = WHERE)]
    runs: Option<PathBuf>,
    /// A folder of sweeps and studies, to be looked at on the page, with the pages of the studies' raters
    #[arg(long, value_name = "FOLDER", help_heading = WHERE)]
    evals: Option<PathBuf>,
    /// The address to listen at; anything but the loopback asks for a token
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), help_heading = WHERE)]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 7860, help_heading = WHERE)]
    port: u16,
    /// Open the page in a browser
    #[arg(long, help_heading = WHERE)]
    open: bool,
    /// What everybody has to know who uses it; better in the environment, where other users of this machine do not see it
    #[arg(long, value_name = "TOKEN", env = "IMAGEN_TOKEN", hide_env_values = true, help_heading = WHERE)]
    token: Option<String>,
    /// Let everybody in who reaches the address
    #[arg(long, conflicts_with = "token", help_heading = WHERE)]
    insecure_no_auth: bool,
    /// A name by which browsers may call this machine, besides localhost, the address and the machine's own; again for more
    #[arg(long, value_name = "NAME", help_heading = WHERE)]
    allow_host: Vec<String>,
    /// Seconds that a job may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, help_heading = WHERE)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    job_time: u64,
    /// What is written down on stderr: problems, all (every request and job, without prompts and tokens), or none
    #[arg(long, value_name = "WHAT", default_value = "problems", help_heading = WHERE)]
    log: Log,
    /// Write it down as one JSON object a line
    #[arg(long, help_heading = WHERE)]
    log_json: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Result<()> {
        let token = self.token()?;
        log::start(self.log, self.log_json);
        let machine = self.machine;
        machine.compute(|found| self.serve(token, found))
    }

    fn serve(&self, token: Option<String>, found: &Found) -> Result<()> {
        interrupt::watch("closing; finished pictures are kept")?;
        let own = own_addresses();
        let mut hosts = self.allow_host.clone();
        hosts.push(self.host.to_string());
        hosts.extend(own.iter().cloned());
        let outward = if self.host.is_unspecified() { own } else { Vec::new() };
        let data = self.data.clone().map_or_else(data_folder, Ok)?;
        let limits = Limits { job_seconds: self.job_time, ..Limits::default() };
        let options = Options { data: data.clone(), hosts, token: token.clone(), runs: self.runs.clone(), limits };
        // the address is taken before models are opened, which may take long
        let address = SocketAddr::new(self.host, self.port);
        let listener = std::net::TcpListener::bind(address).map_err(|e| unavailable(address, &e))?;
        listener.set_nonblocking(true).map_err(|e| unavailable(address, &e))?;
        let evals = self.evals.clone().map(|folder| Box::new(evals::Folder::new(folder)) as Box<dyn Evaluations>);
        let server = Server::open(options, Lender { evals, ..lender(&self.model, found) })?;
        let bound = listener.local_addr().map_err(|e| unavailable(address, &e))?;
        let names = if outward.is_empty() { vec![bound.to_string()] } else { with_port(&outward, bound.port()) };
        let key = token.map(|token| format!("?token={token}")).unwrap_or_default();
        names.iter().try_for_each(|name| print_line(format_args!("http://{name}/{key}")))?;
        let progress = Progress::new(false);
        progress.note(format_args!("pictures are kept in {}", data.display()));
        if self.insecure_no_auth && !self.host.is_loopback() {
            progress.note("anybody who reaches this address can draw, and see and delete every picture");
        }
        progress.note("open it in a browser; Ctrl-C stops");
        if self.open {
            open_browser(&format!("http://{}/{key}", names[0]), &progress);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot start serving: {e}")))?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| unavailable(address, &e))?;
            let stopped = || {
                interrupt::requested() && {
                    server.stop();
                    true
                }
            };
            serve(listener, server.app(), CONNECTIONS, stopped).await;
            Ok::<_, Failure>(())
        })?;
        server.close();
        runtime.shutdown_timeout(LEAVE);
        Ok(())
    }

    /// What everybody has to know; beyond the loopback there is one, or the word that there is none.
    fn token(&self) -> Result<Option<String>> {
        let token = self.token.clone().filter(|token| !token.is_empty());
        match &token {
            Some(token) if token.len() < TOKEN || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) => {
                Err(Failure::usage(format_args!(
                    "the token is too easy to guess or to mistype: expected at least {TOKEN} letters, digits, -, _, . or ~"
                ))
                .hint("make one with `openssl rand -hex 16`"))
            }
            None if !self.host.is_loopback() && !self.insecure_no_auth => {
                let message = format!("{} can be reached by others, and there is no token", self.host);
                Err(Failure::usage(message).hint(
                    "set one with IMAGEN_TOKEN, as in IMAGEN_TOKEN=$(openssl rand -hex 16), or say --insecure-no-auth to let \
                     everybody in",
                ))
            }
            _ => Ok(token),
        }
    }
}

/// Addresses with their port.
fn with_port(names: &[String], port: u16) -> Vec<String> {
    names.iter().map(|name| format!("{name}:{port}")).collect()
}

fn unavailable(address: SocketAddr, cause: &std::io::Error) -> Failure {
    let hint = "choose another --port (0 takes a free one) or --host";
    Failure::new(Exit::Runtime, format_args!("cannot listen at {address}: {cause}")).hint(hint)
}

/// Where pictures are kept where nothing is said.
fn data_folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    let Some(data) = data else {
        return Err(Failure::usage("there is no home folder to keep pictures in").hint("name a folder with --data"));
    };
    Ok(data.join("imagen"))
}

/// The models that the studio may open: those that were named here, and no other.
fn lender(models: &[PathBuf], found: &Found) -> Lender {
    let models = if models.is_empty() { vec![PathBuf::from(BUILT_IN)] } else { models.to_vec() };
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    for path in models {
        let name = if path == Path::new(BUILT_IN) { BUILT_IN.to_owned() } else { super::shared::model_name(&path) };
        // two folders of one name are told apart by a number
        let same = named.iter().filter(|(known, _)| *known == name || known.starts_with(&format!("{name} ("))).count();
        named.push((if same == 0 { name } else { format!("{name} ({})", same + 1) }, path));
    }
    let names = named.iter().map(|(name, _)| name.clone()).collect();
    let device = found.device.clone();
    let open = move |name: &str| {
        let (_, path) = named.iter().find(|(known, _)| known == name).expect("a name from the list");
        let args = ModelArgs { model: Some(path.clone()), ..ModelArgs::default() };
        // the studio has words of its own for what fails
        let opened = args
            .open(&device, &Progress::new(true))
            .map_err(|failure| Error::new(ErrorKind::Model, failure.message()))?;
        model(opened, path.clone())
    };
    let memory = system::memory().map(|memory| memory.total).filter(|_| found.is_cpu());
    let trains = found.clone();
    let pace: Pace = Box::new(move || training_rate(&trains));
    Lender { names, open: Box::new(open), memory, pace: Some(pace), evals: None }
}

/// An open model, with what its pictures say.
fn model(OpenModel { imagen, files, record }: OpenModel, path: PathBuf) -> imagen::Result<Model> {
    let remarks = Remarks::open(&imagen, files.as_ref())?;
    let builtin = path == Path::new(BUILT_IN);
    let record = Rc::new(record);
    let describe = move |imagen: &Imagen, finished: &Finished<'_>| description(imagen, &record, &path, finished);
    let examples = if builtin { Vec::new() } else { spread(remarks.captions()) };
    let examples = if examples.is_empty() { EXAMPLES_TO_DRAW.map(str::to_owned).to_vec() } else { examples };
    Ok(Model { imagen, describe: Box::new(describe), remarks, examples })
}

/// A few captions, as different as their places in the list, of those that fit on a button.
fn spread(captions: &[String]) -> Vec<String> {
    let short: Vec<&String> = captions.iter().filter(|caption| caption.chars().count() <= ON_A_BUTTON).collect();
    let apart = short.len().div_ceil(EXAMPLES_TO_DRAW.len()).max(1);
    short.into_iter().step_by(apart).cloned().collect()
}

fn description(imagen: &Imagen, model: &ModelRecord, path: &Path, finished: &Finished<'_>) -> Description {
    let Finished { request, stages, index, picture, verdict, began } = *finished;
    let (prompt, seed) = request.subject(index);
    let mut record = describe(imagen, model, request, stages, (prompt, seed), picture, verdict);
    record.negative = request.negative_of(index).map(str::to_owned);
    record.toward = between::record(request, index);
    record.sr_seed = request.pictures[index].enlarging;
    record.start = began.map(|began| start(began, request));
    let mut words = vec!["imagen".to_owned(), "sample".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if path != Path::new(BUILT_IN) {
        flag("--model", path.display().to_string());
    }
    request.negative_of(index).iter().for_each(|negative| flag("--negative", (*negative).to_owned()));
    flag("--seed", seed.to_string());
    request.pictures[index].enlarging.iter().for_each(|seed| flag("--sr-seed", seed.to_string()));
    request.from.iter().for_each(|from| flag("--from", from.to_string()));
    request.until.iter().for_each(|until| flag("--until", until.to_string()));
    between::flags(request, index).into_iter().for_each(|(name, value)| flag(name, value));
    if let (Some(began), Some(start)) = (began, &record.start) {
        // where the studio keeps them is nobody's to know: the page hands them out under these names
        flag("--image", "start.png".to_owned());
        began.mask.iter().for_each(|_| flag("--mask", "mask.png".to_owned()));
        start.flags().into_iter().for_each(|(name, value)| flag(name, value));
        record.strength.iter().for_each(|strength| flag("--strength", strength.to_string()));
    }
    flags(&request.options, stages).into_iter().for_each(|(name, value)| flag(name, value));
    if prompt.starts_with('-') {
        words.push("--".to_owned());
    }
    words.push(prompt.to_owned());
    let command = words.iter().map(|word| shell::quote(word)).collect::<Vec<_>>().join(" ");
    Description { text: record.text(), command }
}

/// What a record says of the picture that a drawing began with.
fn start(began: &Began, request: &Request) -> StartRecord {
    let given = request.start.as_ref();
    StartRecord {
        picture: Some(digest(&began.picture)),
        mask: began.mask.as_ref().map(digest),
        extend: began.extend,
        feather: given.and_then(|start| start.feather),
        resample: given.and_then(|start| start.resample),
        outside: given.and_then(|start| start.outside),
    }
}

/// Opens the page with what the system opens pages with.
fn open_browser(address: &str, progress: &Progress) {
    let no_display =
        cfg!(target_os = "linux") && ["DISPLAY", "WAYLAND_DISPLAY"].iter().all(|name| std::env::var_os(name).is_none());
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = if cfg!(windows) {
        Command::new("cmd").args(["/C", "start", "", address]).stdout(Stdio::null()).spawn()
    } else {
        Command::new(program).arg(address).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    if started.is_err() || no_display {
        progress.note("no browser could be started; open the address yourself");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn token(arguments: &str) -> Result<Option<String>> {
        let words = ["serve"].into_iter().chain(arguments.split_whitespace());
        Line::try_parse_from(words).unwrap().serve.token()
    }

    #[test]
    fn beyond_the_loopback_there_is_a_token_or_the_word_that_there_is_none() {
        for arguments in ["--host 0.0.0.0", "--host 192.168.1.2", "--host ::", "--host 10.0.0.1 --token="] {
            let failure = token(arguments).unwrap_err().to_string();
            assert!(failure.contains("there is no token") && failure.contains("--insecure-no-auth"), "{failure}");
        }
        for arguments in ["", "--host 127.0.0.9", "--host ::1", "--host 0.0.0.0 --insecure-no-auth"] {
            assert_eq!(token(arguments).unwrap(), None, "{arguments}");
        }
        assert_eq!(token("--host 0.0.0.0 --token correct-horse-battery").unwrap().unwrap(), "correct-horse-battery");
        for weak in ["short", "with-a-slash/in-it", "with-an-ampersand&"] {
            assert!(token(&format!("--token {weak}")).unwrap_err().to_string().contains("too easy"), "{weak}");
        }
    }

    #[test]
    fn folders_of_one_name_are_told_apart() {
        let found = imagen::nn::device::DeviceName::default().find().unwrap();
        let named = |paths: &[&str]| lender(&paths.iter().map(PathBuf::from).collect::<Vec<_>>(), &found).names;
        assert_eq!(named(&[]), ["built-in"]);
        assert_eq!(named(&["a/mine", "b/mine", "built-in"]), ["mine", "mine (2)", "built-in"]);
    }
}
