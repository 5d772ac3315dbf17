//! `lockstep serve`: one broker.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::exit::CliError;
use super::output::Output;
use crate::config::{Config, ConfigError, ServeFlags};
use crate::server;

/// Time for a graceful stop before the process simply ends.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from flags, then the environment (LOCKSTEP_…), then the file, then defaults.

Examples:
  lockstep serve --data /var/lib/lockstep
  lockstep serve --data /var/lib/lockstep --join one.example:7400
  lockstep serve --data fourth --join 127.0.0.1:7400 --port-base 7430
  lockstep serve --config /etc/lockstep.toml --print-config")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    flags: ServeFlags,
    /// Stop when standard input ends: set by `up`, so that no broker outlives it.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

pub(crate) fn run(args: ServeArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::load(&args.flags, variables)?;
    if args.flags.print_config {
        output.bytes(config.effective().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.exit_with_stdin {
        std::thread::Builder::new().name("parent-watch".to_owned()).spawn(stop_when_stdin_ends)?;
    }
    server::run(config).map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks this very process to stop once standard input has ended, and makes it end if it does not.
fn stop_when_stdin_ends() {
    let mut stdin = std::io::stdin().lock();
    let mut scrap = [0; 64];
    // An error ends it like the end itself: nobody is on the other side any more.
    while matches!(stdin.read(&mut scrap), Ok(count) if count > 0) {}
    if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).is_ok() {
        std::thread::sleep(STOP_TIME_MAX);
    }
    std::process::exit(1);
}
