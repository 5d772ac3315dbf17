//! Waiting for what goes on by itself in the cluster: progress while it lasts, and a question before it begins.
//!
//! What holds: Ctrl-C ends the waiting, never the work; the command then exits with 3 and says how to give the work up.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::CliError;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks in a row by which somebody else has given up what is waited for: any broker answers, and may lag behind.
const DOUBTS_MAX: u32 = 4;

/// Whether what is waited for is still wanted.
#[derive(Default)]
pub(crate) struct Doubt(u32);

impl Doubt {
    /// One look says that it is, or is not.
    ///
    /// # Errors
    /// So did all of the last looks: `why`.
    pub(crate) fn look(&mut self, is_wanted: bool, why: impl FnOnce() -> String) -> Result<(), CliError> {
        self.0 = if is_wanted { 0 } else { self.0 + 1 };
        if self.0 < DOUBTS_MAX { Ok(()) } else { Err(CliError::Failed(why())) }
    }
}

/// What is waited for.
pub(crate) struct Wait<'a> {
    /// What is counted, as in "broker 4: replicas and metadata left".
    pub(crate) counted: &'a str,
    /// What goes on after Ctrl-C, and how to give it up.
    pub(crate) interrupted: &'a str,
}

impl Wait<'_> {
    /// Looks again and again until nothing is left. A terminal sees a bar, others a line for each change, both on standard
    /// error.
    ///
    /// # Errors
    /// A look failed, or somebody pressed Ctrl-C.
    pub(crate) async fn until_none_is_left(
        &self,
        look: impl AsyncFnMut() -> Result<u64, CliError>,
    ) -> Result<(), CliError> {
        tokio::select! {
            ended = self.watch(look) => ended,
            Ok(()) = tokio::signal::ctrl_c() => Err(CliError::Partly(self.interrupted.to_owned())),
        }
    }

    async fn watch(&self, mut look: impl AsyncFnMut() -> Result<u64, CliError>) -> Result<(), CliError> {
        let bar = bar(self.counted);
        let mut said = None;
        loop {
            let left = look().await?;
            if left == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            // More may come to it while it goes on: the bar then grows longer, and never moves backwards.
            let most = bar.length().unwrap_or(0).max(left + bar.position());
            bar.set_length(most);
            bar.set_position(most - left);
            if said.replace(left) != Some(left) && bar.is_hidden() {
                eprintln!("{}: {left}", self.counted);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn bar(counted: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let bar = match ProgressStyle::with_template("{msg}: {bar:30} {pos} of {len} done, {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_message(counted.to_owned())
}

/// Asks on the terminal; without one, nobody can say yes.
///
/// # Errors
/// The terminal cannot be read.
pub(crate) fn confirm(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Wait<'_> = Wait { counted: "replicas left", interrupted: "it goes on" };

    #[tokio::test]
    async fn a_wait_ends_when_nothing_is_left_and_not_before() {
        let mut looks = [3, 0, 7].into_iter();
        WAIT.until_none_is_left(async || Ok(looks.next().unwrap())).await.unwrap();
        assert_eq!(looks.next(), Some(7), "it looked until it saw 0, and no more");
    }

    #[tokio::test]
    async fn a_look_that_fails_ends_the_wait_with_its_error() {
        let failed =
            WAIT.until_none_is_left(async || Err(CliError::Failed("no broker answers".into()))).await;
        assert_eq!(failed.unwrap_err().to_string(), "no broker answers");
    }

    #[test]
    fn what_one_lagging_broker_says_is_doubted_and_what_all_say_is_believed() {
        let mut doubt = Doubt::default();
        let mut look = |is_wanted| doubt.look(is_wanted, || "given up".into()).is_ok();
        assert!(look(false) && look(false) && look(false) && look(true), "it lagged");
        assert!(look(false) && look(false) && look(false) && !look(false), "it was given up");
    }

    #[test]
    fn only_yes_is_yes() {
        for answer in ["y\n", "YES\n", " yes "] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "yea\n", "y y\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
