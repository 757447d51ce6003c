//! Arguments of `everstep metrics`.

/// Print the run's metrics once, as Prometheus would scrape them
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    everstep metrics --run runs/mine\n  \
    everstep metrics --run runs/mine > /var/lib/node_exporter/everstep.prom")]
pub struct MetricsArgs {}
