//! `everstep goodput`: what the time of all ranks was spent on.

use std::io::Write;

use everstep_actors::desk::answer::choose;
use everstep_actors::desk::view::Fields;

use crate::cli::goodput::GoodputArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::goodput::{Share, goodput};
use crate::judge::layout::{Shapes, shaped, talk};
use crate::views::fields;
use crate::views::select::List;
use crate::views::talk::{cut, nothing};

/// Prints the shares: all of them sum to the whole.
///
/// # Errors
/// What is asked for cannot be, or the store cannot be read.
pub async fn run(args: &GoodputArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let headings = &[("spent on", "on"), ("rank-time", "rank_seconds"), ("share", "percent")];
    let asked = List { name: "shares", fields: fields::of::<Share>(), headings }.question(&args.selection)?;
    let events = eye.events().await?;
    let mut goodput = goodput(&events);
    if goodput.shares.is_empty() {
        talk("no time to share out: fewer than two events are durable");
    } else {
        let matched;
        (goodput.shares, matched) = choose(goodput.shares, Fields::of, &asked);
        cut(goodput.shares.len(), matched).iter().for_each(|sentence| talk(sentence));
        if matched == 0 {
            talk(&nothing("shares", &args.selection.filter));
        }
    }
    let names = goodput.shares.iter().map(|share| share.on.clone()).collect();
    shaped(out, args.form.output(), Shapes { text: goodput.text(), whole: &goodput, parts: &goodput.shares, names })?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;
    use crate::cli::selection::Selection;
    use crate::judge::fixtures::{Fake, NOW, committed, epoch};

    #[tokio::test]
    async fn the_table_and_the_json_tell_the_same() {
        let eye = Fake::remembers(vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1), committed(NOW + 2_000, 1, 1)]);
        let told = async |eye: &Fake, json: bool| {
            let mut out = Vec::new();
            run(&GoodputArgs { selection: Selection::default(), form: Form::json(json) }, eye, &mut out)
                .await
                .map(|_| String::from_utf8(out).unwrap())
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

    #[tokio::test]
    async fn rows_are_chosen_and_the_headline_stays_that_of_the_run() {
        let events = vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1), committed(NOW + 2_000, 1, 1)];
        let eye = Fake::remembers(events);
        let told = async |filter: &[&str], sort: Option<&str>, limit: Option<u64>| {
            let filter = filter.iter().map(|text| (*text).to_owned()).collect();
            let selection = Selection { filter, sort: sort.map(str::to_owned), limit };
            let mut out = Vec::new();
            let result = run(&GoodputArgs { selection, form: Form::default() }, &eye, &mut out).await;
            result.map(|_| String::from_utf8(out).unwrap())
        };
        let rows = |text: String| {
            assert!(text.starts_with("goodput 100.0 % of 4.0 s of rank-time: 2 steps"), "{text}");
            text.lines().skip(4).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(rows(told(&[], Some("percent"), None).await.unwrap()), ["exchange", "compute", "sum"]);
        assert_eq!(rows(told(&[], Some("-share"), Some(1)).await.unwrap()), ["compute", "sum"]);
        let exchange = told(&["on=exchange"], None, None).await.unwrap();
        assert!(exchange.lines().last().unwrap().contains(" 25.0 %"), "the sum is that of the rows: {exchange}");
        assert_eq!(told(&["on=stall"], None, None).await.unwrap().lines().count(), 5);
        assert!(told(&["of=x"], None, None).await.unwrap_err().sentence.contains("shares have incident, on, percent"), "refused");
    }
}
