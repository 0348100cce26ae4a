//! The command line of a survey.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::LoadOptions;
use crate::stamp::SENDERS_MAX;

/// Servers of several kinds, with more and more users in one room.
#[derive(Debug, Clone, Args)]
pub(crate) struct SurveyOptions {
    /// Measure nothing, and write down what an earlier survey has found
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// The server that this is all about; it takes part with each of its encodings
    #[arg(long, required_unless_present = "from")]
    pub(crate) server_bin: Option<PathBuf>,
    /// The naive relay on socketioxide
    #[arg(long)]
    pub(crate) naive_bin: Option<PathBuf>,
    /// The naive relay on Node.js, as a command that is split at spaces
    #[arg(long)]
    pub(crate) node_cmd: Option<String>,
    /// The same on Bun
    #[arg(long)]
    pub(crate) bun_cmd: Option<String>,
    /// The room of Colyseus
    #[arg(long)]
    pub(crate) colyseus_cmd: Option<String>,
    /// The bare loop of `benches`: it sends what the server has just been found to send in binary
    #[arg(long)]
    pub(crate) bare_bin: Option<PathBuf>,
    /// Who does not take part, as `name: why`; may be given again
    #[arg(long, value_name = "NAME: WHY")]
    pub(crate) left_out: Vec<Note>,
    /// What else is to be written down, such as versions, as `name: value`; may be given again
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) fact: Vec<Note>,
    /// Numbers of users, in ascending order; they take the place of `--users`
    #[arg(long, value_delimiter = ',', default_value = "25,50,100,200,400,1000,2000",
        value_parser = clap::value_parser!(u32).range(2..=i64::from(SENDERS_MAX)))]
    pub(crate) sizes: Vec<u32>,
    /// How often each of them is measured with each number
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Whose poses are older than this at p99 is spared all larger numbers
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) hopeless: Duration,
    /// The largest room is the one in which the p99 pose age is at most this
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub(crate) p99: Duration,
    /// And nobody near goes unheard of for longer than this
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) max_gap: Duration,
    /// How many more numbers are tried to find the largest room
    #[arg(long, default_value_t = 12)]
    pub(crate) steps: usize,
    /// The most users that are tried for that
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..=i64::from(SENDERS_MAX)))]
    pub(crate) most: u32,
    /// How near its two bounds may come, as a share of it
    #[arg(long, default_value_t = 0.05)]
    pub(crate) precision: f64,
    /// Begin nothing new after this time
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) within: Option<Duration>,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// The core that the servers run on
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core that the load comes from
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// Where the findings go, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The document whose section between the markers gets the tables
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
    /// The folder that gets the charts
    #[arg(long, value_name = "FOLDER")]
    pub(crate) charts: Option<PathBuf>,
}

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl FromStr for Note {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, text) = text.split_once(':').ok_or("a name and a colon come first")?;
        Ok(Self { name: name.trim().to_owned(), text: text.trim().to_owned() })
    }
}
