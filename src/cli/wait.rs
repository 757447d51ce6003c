//! `everstep wait`: what can be waited for.

use clap::Args;

use super::desk::Form;
use crate::judge::moment::span;
use crate::judge::wait::Expression;

/// `everstep wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  everstep wait 'step>=1000' --timeout 30m
  everstep wait 'ranks>=4 and state=training'
  everstep wait 'waiting=' --timeout 1m              until the run does not wait any more
  everstep wait 'checkpoint>=500 and loss<5'

Fields:
  numbers  step steps epoch ranks lanes checkpoint ledger samples images_per_s progress_age_ms
           loss entropy lr metrics.NAME phases.NAME            with >= <= > < = !=
  texts    state (training waiting paused ended silent) waiting leader paused   with = != ~ (contains)

Exit codes:
  0  it came true    1  the run ended before, 5  by a failure    4  nobody ever answered    6  timed out")]
pub struct WaitArgs {
    /// What to wait for: conditions joined with ` and `
    #[arg(value_name = "EXPRESSION", value_parser = Expression::parse)]
    pub expression: Expression,
    /// Give up after this time (250ms, 10s, 10m, 1h30m, 2d)
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub timeout: u64,
    /// Ask this often
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = span)]
    pub poll: u64,
    /// Print what held as one JSON object with --json
    #[command(flatten)]
    pub form: Form,
}
