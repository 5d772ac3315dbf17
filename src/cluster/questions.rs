//! What brokers ask each other about the cluster.
//!
//! What holds:
//! - Any broker can have commands written. The one that leads the metadata decides, for others by the same checks as for
//!   itself.
//! - A question that did not leave, or that met a broker which does not lead, is asked again elsewhere. One whose answer
//!   was lost is not: whether it was done can only be seen in the state.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::roster::KnownBroker;
use super::{COMMAND_VERSION, Cluster, Command, Inner, MetadataError, MetadataState, Refusal};

/// Questions of others that are worked on at once; the next wait.
const ANSWERED_AT_ONCE: usize = 64;
/// How long to wait for another leader before the question is put again.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// How long a broker may take to say who belongs to the cluster.
const HEARSAY_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to ask other brokers.
pub trait Colleagues: Send + Sync + 'static {
    /// Puts a question to a broker; nothing if there is no connection: it was not sent then. The answer never comes if the
    /// connection ends first.
    fn ask(&self, broker: u64, question: Bytes) -> Option<oneshot::Receiver<Bytes>>;

    /// The brokers that can be asked.
    fn connected(&self) -> Vec<u64>;
}

/// A question that another broker asks of this one.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub from: u64,
    /// What.
    pub question: Bytes,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where the answer to a question goes.
#[derive(Debug)]
pub struct Reply {
    number: u64,
    answers: mpsc::Sender<(u64, Bytes)>,
}

impl Reply {
    /// The answer goes to whoever takes numbered answers there.
    pub fn new(number: u64, answers: mpsc::Sender<(u64, Bytes)>) -> Reply {
        Reply { number, answers }
    }

    /// Answers. Lost if the asker is gone, or takes none.
    fn send(self, answer: Bytes) {
        let _ = self.answers.try_send((self.number, answer));
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    question: Question,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// Write these commands, all of them or none.
    Write(Vec<Command>),
    /// Say who belongs to the cluster.
    Members {},
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// They are committed, the last one at this LSN.
    Written { lsn: u64 },
    /// The metadata does not allow them.
    Refused(Refusal),
    /// Another broker decides.
    NotLeader { leader: Option<u64>, term: u64 },
    /// Leadership was lost meanwhile.
    OutcomeUnknown,
    /// It took too long.
    TimedOut,
    /// These belong to the cluster.
    Members(Hearsay),
    /// Something else, for people.
    Failed(String),
}

/// Who belongs to the cluster, as another broker has it.
#[derive(Serialize, Deserialize)]
pub(super) struct Hearsay {
    /// Through here it has followed the metadata.
    pub(super) applied_lsn: u64,
    /// They.
    pub(super) brokers: Vec<KnownBroker>,
}

impl Cluster {
    /// Has commands written, all of them or none, by whichever broker leads the metadata. Returns a state of this broker
    /// that includes them.
    ///
    /// # Errors
    /// The metadata does not allow them, or their outcome is not known.
    pub async fn submit(
        &self,
        commands: Vec<Command>,
        wait: Duration,
    ) -> Result<Arc<MetadataState>, MetadataError> {
        let deadline = Instant::now() + wait;
        let attempts = async {
            let mut news = self.inner.metadata.watch();
            let mut hint = None;
            loop {
                let view = news.borrow_and_update().clone();
                match self.submit_to(view.leader.or(hint), &commands, deadline).await {
                    Err(MetadataError::NotLeader { leader, .. }) => hint = leader,
                    Err(error) => return Err(error),
                    Ok(lsn) => return self.await_applied(lsn).await,
                }
                let changed = news.wait_for(|now| now.leader != view.leader);
                if let Ok(Err(_)) = timeout(ASK_PAUSE, changed).await {
                    return Err(MetadataError::Log(crate::engine::AppendError::Stopped));
                }
            }
        };
        timeout_at(deadline, attempts).await.unwrap_or(Err(MetadataError::TimedOut))
    }

    /// Lets one broker write them: the given one, or any that may know better. Returns the last LSN.
    async fn submit_to(
        &self,
        leader: Option<u64>,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<u64, MetadataError> {
        let colleagues = &self.inner.colleagues;
        let unknown = MetadataError::NotLeader { leader: None, term: 0 };
        match leader {
            Some(leader) if leader == self.node() => self.write(commands, deadline).await,
            Some(leader) => self.ask(leader, commands).await.unwrap_or(Err(unknown)),
            None => match colleagues.connected().first() {
                Some(any) => self.ask(*any, commands).await.unwrap_or(Err(unknown)),
                None => Err(unknown),
            },
        }
    }

    /// Asks some other broker who belongs to the cluster; another one at each attempt. Nothing if it does not say.
    pub(super) async fn ask_for_members(&self, attempt: usize) -> Option<Hearsay> {
        let connected = self.inner.colleagues.connected();
        let broker = connected.get(attempt % connected.len().max(1))?;
        let answer = self.put(*broker, Question::Members {})?;
        let text = timeout(HEARSAY_TIMEOUT, answer).await.ok()?.ok()?;
        match serde_json::from_slice(&text) {
            Ok(Answer::Members(hearsay)) => Some(hearsay),
            _ => None,
        }
    }

    fn put(&self, broker: u64, question: Question) -> Option<oneshot::Receiver<Bytes>> {
        let question = Versioned { v: COMMAND_VERSION, question };
        let text = serde_json::to_vec(&question).expect("names, numbers and lists of them always serialise");
        self.inner.colleagues.ask(broker, text.into())
    }

    /// Asks a broker to write; nothing if it cannot be reached.
    async fn ask(&self, broker: u64, commands: &[Command]) -> Option<Result<u64, MetadataError>> {
        let answer = self.put(broker, Question::Write(commands.to_vec()))?.await;
        Some(match answer {
            Err(_) => Err(MetadataError::OutcomeUnknown),
            Ok(text) => match serde_json::from_slice::<Answer>(&text) {
                Ok(answer) => answer.of_broker(broker),
                Err(error) => Err(MetadataError::Elsewhere { broker, why: error.to_string() }),
            },
        })
    }

    /// Writes as the metadata's leader. Returns the last LSN.
    async fn write(&self, commands: &[Command], deadline: Instant) -> Result<u64, MetadataError> {
        let decide = |state: &MetadataState| state.check_all(commands).map(|()| commands.to_vec());
        let (_, after) = self.change(deadline, decide).await?;
        Ok(after.applied_lsn())
    }

    fn hearsay(&self) -> Hearsay {
        // In this order: what is said is never older than it is said to be.
        let applied_lsn = self.state().applied_lsn();
        Hearsay { applied_lsn, brokers: self.members().iter().cloned().collect() }
    }

    async fn answer(&self, question: &[u8]) -> Answer {
        match serde_json::from_slice::<Versioned>(question) {
            Ok(Versioned { v, .. }) if v > COMMAND_VERSION => Answer::Failed(format!(
                "question version {v} is newer than {COMMAND_VERSION}; upgrade this broker"
            )),
            Ok(Versioned { question: Question::Write(commands), .. }) => {
                self.write(&commands, Instant::now() + super::writer::CHANGE_TIMEOUT).await.into()
            }
            Ok(Versioned { question: Question::Members {}, .. }) => match self.is_current() {
                true => Answer::Members(self.hearsay()),
                false => Answer::NotLeader { leader: None, term: 0 },
            },
            Err(error) => Answer::Failed(format!("the question is malformed: {error}")),
        }
    }
}

/// Answers what other brokers ask, until nobody can ask any more or the cluster is gone.
pub(super) async fn answer_all(cluster: Weak<Inner>, mut asked: mpsc::Receiver<Asked>) {
    let mut answering = JoinSet::new();
    while let Some(Asked { from, question, reply }) = asked.recv().await {
        if answering.len() >= ANSWERED_AT_ONCE {
            answering.join_next().await;
        }
        while answering.try_join_next().is_some() {}
        let Some(inner) = cluster.upgrade() else { return };
        answering.spawn(async move {
            let answer = Cluster { inner }.answer(&question).await;
            if let Answer::Failed(why) = &answer {
                tracing::warn!(from, why, "another broker's question could not be answered");
            }
            let text =
                serde_json::to_vec(&answer).expect("names, numbers and lists of them always serialise");
            reply.send(text.into());
        });
    }
}

impl From<Result<u64, MetadataError>> for Answer {
    fn from(outcome: Result<u64, MetadataError>) -> Answer {
        match outcome {
            Ok(lsn) => Answer::Written { lsn },
            Err(MetadataError::Refused(refusal)) => Answer::Refused(refusal),
            Err(MetadataError::NotLeader { leader, term }) => Answer::NotLeader { leader, term },
            Err(MetadataError::OutcomeUnknown) => Answer::OutcomeUnknown,
            Err(MetadataError::TimedOut) => Answer::TimedOut,
            Err(other) => Answer::Failed(other.to_string()),
        }
    }
}

impl Answer {
    fn of_broker(self, broker: u64) -> Result<u64, MetadataError> {
        match self {
            Answer::Written { lsn } => Ok(lsn),
            Answer::Refused(refusal) => Err(MetadataError::Refused(refusal)),
            Answer::NotLeader { leader, term } => Err(MetadataError::NotLeader { leader, term }),
            Answer::OutcomeUnknown => Err(MetadataError::OutcomeUnknown),
            Answer::TimedOut => Err(MetadataError::TimedOut),
            Answer::Failed(why) => Err(MetadataError::Elsewhere { broker, why }),
            Answer::Members(_) => {
                Err(MetadataError::Elsewhere { broker, why: "it answered another question".into() })
            }
        }
    }
}
