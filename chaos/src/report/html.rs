//! The page of a report: one file, nothing outside it, light and dark as the reader's screen is.

use std::fmt::Write as _;

use super::chart::{Curves, Series, most};
use super::{Failure, Growth, Report, Tally, Verdict};

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--faint:#667079;--line:#dfe3e8;--panel:#f6f8fa;--one:#1f6feb;--two:#8a6d00;\
--bar:#c2410c;--bad:#cf222e;--good:#1a7f37}
@media(prefers-color-scheme:dark){:root{--paper:#0e1116;--ink:#e6e9ed;--faint:#98a2ad;--line:#2a3038;--panel:#161b22;--one:#6cb0ff;\
--two:#e0c060;--bar:#ff9a57;--bad:#ff7b72;--good:#56d364}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:62rem;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2rem 0 .6rem}
p{margin:.3rem 0}
.faint{color:var(--faint)}
.good{color:var(--good)}
.bad{color:var(--bad)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1.2rem 0}
.facts div{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.5rem .7rem}
.facts b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums}
.facts span{color:var(--faint);font-size:.8rem}
figure{margin:0 0 .9rem}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;font-size:.85rem}
svg{display:block;width:100%;height:90px;background:var(--panel);border:1px solid var(--line);border-radius:6px}
svg.row{height:18px;border-radius:4px}
path{fill:none;stroke-width:1.6;vector-effect:non-scaling-stroke}
.one{stroke:var(--one)}
.two{stroke:var(--two);stroke-dasharray:5 3}
.broken{stroke:var(--bad);stroke-width:2}
.bar{fill:var(--bar)}
.key{display:inline-block;width:1.1em;border-top:2px solid var(--one);vertical-align:middle;margin-right:.35em}
.key.dashed{border-top:2px dashed var(--two)}
.axis{display:flex;justify-content:space-between;font-size:.75rem;color:var(--faint);font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--faint);font-weight:500}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;padding-right:0;padding-left:.6rem}
pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.7rem;overflow-x:auto;font-size:.78rem;line-height:1.45}
";

/// Text as it may stand in a page.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML knows no other control characters.
            char if char.is_control() && !matches!(char, '\n' | '\t') => out.push(' '),
            char => out.push(char),
        }
        out
    })
}

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let scenario = &report.scenario;
    let name = escaped(&scenario.name);
    let verdict = if report.holds() { "<span class=\"good\">holds</span>" } else { "<span class=\"bad\">fails</span>" };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{name}: {}</title>\n<style>\n{STYLE}</style>\n<h1>{name}: {verdict}</h1>\n",
        if report.holds() { "holds" } else { "fails" }
    );
    let _ = writeln!(html, "<p class=\"faint\">{}</p>", escaped(&scenario.about));
    let _ = writeln!(
        html,
        "<p class=\"faint\">{} tier, seed {}, {} nodes; played in {:.2} s. Again: <code>{}</code></p>",
        report.tier,
        report.seed,
        scenario.cluster.nodes,
        report.wall_s,
        escaped(&report.replay())
    );
    if let Some(failure) = &report.failure {
        html += &reason(failure);
    }
    html += &facts(report);
    html += &charts(report);
    html += &checks(&report.verdicts);
    html += &faults(&report.tallies);
    html += &sizes(report);
    html += &plan(report);
    html
}

fn reason(Failure { check, because, step, last }: &Failure) -> String {
    format!(
        "<h2 class=\"bad\">{}</h2>\n<p>{}</p>\n<p class=\"faint\">First seen at step {step}. The last events before it:</p>\n<pre>{}</pre>\n",
        escaped(check),
        escaped(because),
        escaped(&last.join("\n"))
    )
}

fn facts(report: &Report) -> String {
    let figures = &report.figures;
    let megabytes = figures.bytes_moved as f64 / 1e6;
    let seconds = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.2} s"));
    let facts = [
        (format!("{:.1} s", figures.took_s), "time of the run"),
        (figures.steps.to_string(), "steps committed"),
        (figures.steps_lost.to_string(), "steps lost"),
        (figures.epochs.to_string(), "epochs"),
        (figures.strikes.to_string(), "strikes of faults"),
        (format!("{:.2}", figures.goodput), "goodput"),
        (seconds(figures.recover_p50_s), "to the next step, p50"),
        (seconds(figures.recover_p99_s), "to the next step, p99"),
        (format!("{megabytes:.2} MB"), "copies moved"),
    ];
    let cells: String = facts.iter().map(|(value, what)| format!("<div><b>{value}</b><span>{what}</span></div>")).collect();
    format!("<div class=\"facts\">{cells}</div>\n")
}

fn charts(report: &Report) -> String {
    let history = &report.history;
    // Whatever follows the first time would paint all over.
    let first = |verdict: &Verdict| report.violations.iter().find(|violation| violation.check == verdict.check);
    let broken =
        report.verdicts.iter().filter_map(first).filter_map(|first| history.entries.get(first.place)).map(|entry| entry.at).collect();
    let curves = Curves::of(history, report.tallies.len(), broken);
    let chart = |what: &str, top: &Series, svg: String| {
        let top = most(top.iter());
        let top = if top.fract() == 0.0 { format!("{top}") } else { format!("{top:.1}") };
        format!("<figure><figcaption><span>{what}</span><span class=\"faint\">at most {top}</span></figcaption>{svg}</figure>\n")
    };
    let one = "<span class=\"key\"></span>";
    let members = format!("{one}members of the newest epoch &nbsp; <span class=\"key dashed\"></span>nodes that live");
    let mut html = "<h2>Over time</h2>\n".to_owned();
    let both = [(&curves.members, "one"), (&curves.living, "two")];
    let larger = if most(curves.living.iter()) > most(curves.members.iter()) { &curves.living } else { &curves.members };
    html += &chart(&members, larger, curves.lines(&both));
    html += &chart("Epoch", &curves.epoch, curves.lines(&[(&curves.epoch, "one")]));
    html += &chart("Committed steps", &curves.steps, curves.lines(&[(&curves.steps, "one")]));
    html += &chart("Steps a second", &curves.rate, curves.lines(&[(&curves.rate, "one")]));
    for (tally, fault) in report.tallies.iter().zip(0..) {
        let _ = writeln!(
            html,
            "<figure><figcaption><span>Fault {}: {}</span><span class=\"faint\">{} strikes</span></figcaption>{}</figure>",
            tally.number,
            escaped(&tally.what),
            tally.injected,
            curves.bars(fault)
        );
    }
    let ticks: String = (0..=4u32).map(|tick| format!("<span>{:.0} s</span>", curves.took.as_secs_f64() * f64::from(tick) / 4.0)).collect();
    let _ = writeln!(html, "<div class=\"axis\">{ticks}</div>");
    if !report.violations.is_empty() {
        html += "<p class=\"bad\">Red lines: where each property that does not hold was broken first.</p>\n";
    }
    html
}

fn checks(verdicts: &[Verdict]) -> String {
    let row = |Verdict { check, broken, because }: &Verdict| {
        let result = match broken {
            0 => "<td class=\"good\">holds</td><td></td>".to_owned(),
            times => format!("<td class=\"bad\">broken {times} times</td><td>{}</td>", escaped(because.as_deref().unwrap_or_default())),
        };
        format!("<tr><td><code>{check}</code></td><td>{}</td>{result}</tr>\n", check.says())
    };
    let rows: String = verdicts.iter().map(row).collect();
    format!(
        "<h2>Checks</h2>\n<div class=\"wide\"><table><tr><th>Check</th><th>What must hold</th><th>Result</th><th></th></tr>\n{rows}</table></div>\n"
    )
}

fn faults(tallies: &[Tally]) -> String {
    let row = |Tally { number, what, injected, seen }: &Tally| {
        let what = escaped(what);
        format!("<tr><td>{number}</td><td>{what}</td><td class=\"n\">{injected}</td><td class=\"n\">{seen}</td></tr>\n")
    };
    let rows: String = tallies.iter().map(row).collect();
    format!(
        "<h2>Faults</h2>\n<div class=\"wide\"><table><tr><th></th><th>Fault</th><th class=\"n\">Injected</th><th class=\"n\">Seen</th></tr>\n{rows}</table></div>\n"
    )
}

fn sizes(report: &Report) -> String {
    let row = |Growth { of, early, late }: &Growth| {
        format!("<tr><td>{}</td><td class=\"n\">{early}</td><td class=\"n\">{late}</td></tr>\n", escaped(of))
    };
    let rows: String = report.figures.sizes.iter().map(row).collect();
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<h2>Sizes</h2>\n<div class=\"wide\"><table><tr><th>Largest, of any node</th><th class=\"n\">First half of the run</th>\
         <th class=\"n\">Second half</th></tr>\n{rows}</table></div>\n"
    )
}

fn plan(report: &Report) -> String {
    let text = report.scenario.to_toml().unwrap_or_else(|error| error.to_string());
    format!("<h2>Scenario</h2>\n<pre>{}</pre>\n</html>\n", escaped(&text))
}
