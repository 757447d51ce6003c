//! `everstep goodput`: what the time of all ranks was spent on.

use std::io::Write;

use crate::cli::goodput::GoodputArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::goodput::goodput;
use crate::judge::layout::{Shapes, shaped, talk};

/// Prints the shares, which sum to the whole.
///
/// # Errors
/// The store cannot be read.
pub async fn run(args: &GoodputArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let events = eye.events().await?;
    let goodput = goodput(&events);
    if goodput.shares.is_empty() {
        talk("no time to share out: fewer than two events are durable");
    }
    let names = goodput.shares.iter().map(|share| share.on.clone()).collect();
    shaped(out, args.form.output(), Shapes { text: goodput.text(), whole: &goodput, parts: &goodput.shares, names })?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;
    use crate::judge::fixtures::{Fake, NOW, committed, epoch};

    #[tokio::test]
    async fn the_table_and_the_json_tell_the_same() {
        let eye = Fake::remembers(vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1), committed(NOW + 2_000, 1, 1)]);
        let told = async |eye: &Fake, json: bool| {
            let mut out = Vec::new();
            run(&GoodputArgs { form: Form::json(json) }, eye, &mut out).await.map(|_| String::from_utf8(out).unwrap())
        };
        let text = told(&eye, false).await.unwrap();
        assert!(
            text.starts_with("goodput 100.0 % of 4.0 s of rank-time: 2 steps") && text.contains("compute") && text.contains("75.0 %"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&told(&eye, true).await.unwrap()).unwrap();
        assert_eq!((&json["goodput_percent"], &json["shares"][0]["on"]), (&100.0.into(), &"compute".into()));
        assert_eq!(told(&Fake::remembers(vec![]), false).await.unwrap(), "");
        assert_eq!(told(&Fake::away("gone"), false).await.unwrap_err().code, ExitCode::Unreachable);
    }
}
