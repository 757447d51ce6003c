//! `everstep why`: the chain of causes, from what people see to what is at fault.

use std::io::Write;

use crate::cli::why::WhyArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::layout::{Shapes, shaped};
use crate::judge::{sight, why};

/// Prints why the run waits, is slow, or why one thing is as it is.
///
/// # Errors
/// There is no such thing, or nothing can be seen of the run.
pub async fn run(args: &WhyArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let topic = args.topic.as_deref();
    let questions = match topic {
        None | Some("waiting" | "slow") => sight::pace(),
        Some(typed) => sight::of(typed),
    };
    let view = sight::look(eye, &questions).await?;
    let chain = match topic {
        Some("waiting") => why::waiting(&view),
        Some("slow") => why::slow(&view),
        Some(typed) => why::about(&view, typed).map_err(|because| Failure::new(ExitCode::NotFound, because))?,
        None if why::waits(&view) => why::waiting(&view),
        None => why::slow(&view),
    };
    let names = chain.at_fault.iter().cloned().collect();
    shaped(out, args.form.output(), Shapes { text: chain.text(), whole: &chain, parts: std::slice::from_ref(&chain), names })?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;
    use crate::judge::fixtures::{Fake, healthy, node_ref, of_node, rank, run as of_run, set};

    async fn told(eye: &Fake, topic: Option<&str>, json: bool) -> Result<String, Failure> {
        let mut out = Vec::new();
        let args = WhyArgs { topic: topic.map(str::to_owned), form: Form::json(json) };
        assert_eq!(run(&args, eye, &mut out).await?, ExitCode::Done);
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn without_a_topic_it_tells_what_is_the_matter() {
        let slow = rank(healthy(4), "rank/2", "computing", |rank| set(&mut rank.phases, "compute", 2.0));
        let text = told(&Fake::of(slow.clone()), None, false).await.unwrap();
        assert!(text.starts_with("rank/2 on box2 is slow") && text.contains("at fault: node/n03030303\nremedy: "), "{text}");
        let waits = of_node(of_run(slow, "run", "waiting", |_| {}), &node_ref(2), "silent", |_| {});
        let text = told(&Fake::of(waits.clone()), None, false).await.unwrap();
        assert!(text.starts_with("the run waits for node/n02020202"), "{text}");
        assert!(told(&Fake::of(waits), Some("slow"), false).await.unwrap().contains("rank/2"), "asked for, told");
    }

    #[tokio::test]
    async fn the_json_is_one_object_and_what_is_not_there_is_not_found() {
        let eye = Fake::of(healthy(2));
        let chain: serde_json::Value = serde_json::from_str(&told(&eye, Some("r1"), true).await.unwrap()).unwrap();
        assert_eq!(
            (&chain["about"], &chain["at_fault"], &chain["schema_version"]),
            (&"rank/1".into(), &serde_json::Value::Null, &1.into())
        );
        assert_eq!(told(&eye, Some("rank/7"), false).await.unwrap_err().code, ExitCode::NotFound);
        assert_eq!(told(&Fake::away("gone"), None, false).await.unwrap_err().code, ExitCode::Unreachable);
    }
}
