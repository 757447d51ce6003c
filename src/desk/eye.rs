//! Where faces look: a live run, or what its store remembers.

use async_trait::async_trait;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::View;
use everstep_actors::event::Recorded;

use crate::cli::Failure;

/// A sight of one run. Whatever shows something to people sees it through this.
#[async_trait]
pub trait Eye: Send + Sync + 'static {
    /// The answer to a question: the leader's, or a member's, or the store's; [`View::scope`] says whose.
    ///
    /// # Errors
    /// With the code that a command ends with: there is no such run, or nobody answers and nothing of it can be read.
    async fn look(&self, question: &Question) -> Result<View, Failure>;

    /// Everything that happened, as far as it is durable, in order of time.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn events(&self) -> Result<Vec<Recorded>, Failure>;
}
