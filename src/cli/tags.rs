//! Arguments that say what is counted, and how it is tagged.

use super::truth;
use crate::{
    event::Detail,
    metrics::{DEFAULT_PREFIX, ExtraTag},
};
use clap::{ArgAction, Args};

/// What metrics and their tags look like.
#[derive(Debug, Clone, Args)]
pub struct TagArgs {
    /// What stands before every metric's name
    #[arg(long, env = "RUNHOUND_METRIC_PREFIX", value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    pub metric_prefix: String,
    /// Branches to send by name beside the default one, as in a workflow's `branches:` filter; others are `other`
    #[arg(long, env = "RUNHOUND_BRANCHES", value_name = "GLOB", value_delimiter = ',')]
    pub branches: Vec<String>,
    /// Take completed jobs too, where the webhook delivers `workflow_job`: how long they queued and ran. Each name is billed
    #[arg(long, env = "RUNHOUND_JOBS", value_parser = truth)]
    pub jobs: bool,
    /// Take the steps of jobs too. Each step of each job is billed. Needs --jobs
    #[arg(long, env = "RUNHOUND_STEPS", value_parser = truth)]
    pub steps: bool,
    /// Count all jobs of a matrix as one: `test (ubuntu, 3.12)` as `test`
    #[arg(
        long, env = "RUNHOUND_FOLD_MATRIX", value_name = "BOOL", default_value = "true", value_parser = truth,
        num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
    )]
    pub fold_matrix: bool,
    /// Tags to send beside the usual ones: each value of each is a custom metric on the bill
    #[arg(long, env = "RUNHOUND_EXTRA_TAGS", value_name = "TAG", value_delimiter = ',', value_enum)]
    pub extra_tags: Vec<ExtraTag>,
}

impl TagArgs {
    /// Of what there are metrics.
    #[must_use]
    pub const fn detail(&self) -> Detail {
        match (self.jobs, self.steps) {
            (true, true) => Detail::Steps,
            (true, false) => Detail::Jobs,
            (false, _) => Detail::Runs,
        }
    }
}
