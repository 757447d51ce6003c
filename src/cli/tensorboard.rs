//! Arguments of `everstep tensorboard`.

use std::path::PathBuf;

/// Write the run's curves as a TensorBoard event file
///
/// The file is made from the durable events and has the same name each time: writing it again replaces it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    everstep tensorboard --run runs/mine --out tb/mine\n  \
    tensorboard --logdir tb")]
pub struct TensorboardArgs {
    /// Folder that the file goes into; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
