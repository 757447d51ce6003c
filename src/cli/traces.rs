//! Arguments of `everstep traces`.

/// Tell the run's steps and changes of epoch as OpenTelemetry traces
///
/// They are made from the durable events. Without `--endpoint` they go to stdout, one OTLP request a line, as a collector's file
/// receiver reads them. Sent twice they are the same traces.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    everstep traces --run runs/mine --endpoint http://127.0.0.1:4318\n  \
    everstep traces --run runs/mine --every 1 > traces.jsonl")]
pub struct TracesArgs {
    /// A collector that takes OTLP over HTTP
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// One trace for each so many steps; 0 for none, so that only changes of epoch are told
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub every: u64,
}
