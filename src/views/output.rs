//! Lists of items: tables for people, JSON for programs, names for pipes.

use clap::ValueEnum;
use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{Item, View};

use super::grid::{self, WIDTH};
use super::select::KINDS;

mod columns;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Columns that fit 100 characters, or the terminal where that has fewer
    #[default]
    #[value(alias = "text")]
    Table,
    /// All columns, as wide as they are
    Wide,
    /// One object with everything that was answered
    Json,
    /// One item a line
    Jsonl,
    /// One reference a line
    Name,
}

/// The items of these kinds (of all kinds when empty) in the order of the view, with a line break at the end.
///
/// JSON is the whole answer. Without items there is only a table's header, or nothing.
pub fn render(view: &View, kinds: &[Kind], output: Output) -> String {
    render_in(view, kinds, output, WIDTH)
}

/// The same, tables in as many columns as there are, and no more than they take usually.
pub fn render_in(view: &View, kinds: &[Kind], output: Output, columns: usize) -> String {
    let shown = || view.items.iter().filter(|item| kinds.is_empty() || kinds.contains(&item.kind()));
    match output {
        Output::Table => tables(view, kinds, Some(columns.min(WIDTH))),
        Output::Wide => tables(view, kinds, None),
        Output::Json => serde_json::to_string_pretty(view).map_or_else(|_| String::new(), |text| text + "\n"),
        Output::Jsonl => lines(shown().filter_map(|item| serde_json::to_string(item).ok())),
        // A name is one line whatever a node says it is.
        Output::Name => lines(shown().map(|item| crate::report::tame(&item.reference))),
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// One table a kind, an empty line between them.
fn tables(view: &View, kinds: &[Kind], room: Option<usize>) -> String {
    let asked = KINDS
        .iter()
        .map(|(kind, ..)| *kind)
        .filter(|kind| if kinds.is_empty() { view.items.iter().any(|item| item.kind() == *kind) } else { kinds.contains(kind) });
    let tables: Vec<String> =
        asked.map(|kind| table(view.items.iter().filter(|item| item.kind() == kind), kind, view.as_of_ms, room)).collect();
    tables.join("\n")
}

/// One table of items of one kind; without a bound on its columns a wide one.
pub(crate) fn table<'a>(items: impl Iterator<Item = &'a Item>, kind: Kind, now_ms: u64, room: Option<usize>) -> String {
    let (items, wide): (Vec<&Item>, bool) = (items.collect(), room.is_none());
    let mut rows = vec![columns::headings(kind, wide)];
    rows.extend(items.iter().map(|item| columns::cells(item, now_ms, wide)));
    let drop_column = |rows: &mut Vec<Vec<String>>, name: &str| {
        let at = rows[0].iter().position(|heading| heading == name);
        rows.iter_mut().for_each(|row| drop(at.map(|at| row.remove(at))));
    };
    if !wide && columns::kinds_are_names(&items) {
        drop_column(&mut rows, "KIND");
    }
    // Half a terminal has room for fewer columns, and cells that are whole say more than many that are cut.
    for spare in columns::spare(kind) {
        if room.is_some_and(|room| room < WIDTH && grid::natural(&rows) > room) {
            drop_column(&mut rows, spare);
        }
    }
    grid::table(&rows, room)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use everstep_actors::desk::view::Properties;

    use super::*;
    use crate::views::human::width;
    use crate::views::sample::{id, view};

    const ALL: [Kind; 9] =
        [Kind::Run, Kind::Node, Kind::Rank, Kind::Actor, Kind::Lane, Kind::Shard, Kind::Checkpoint, Kind::Event, Kind::Link];

    fn table(kind: Kind, output: Output) -> String {
        render(&view(2), &[kind], output)
    }

    #[test]
    fn actors_show_mailbox_handler_and_failure() {
        let text = table(Kind::Actor, Output::Table);
        assert!(text.starts_with("ACTOR        NODE       STATE     MBOX  HWM  OLDEST  HANDLER   MSGS  RESTARTS  LAST-ERR\n"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("rank ") && line.contains("3/64") && line.contains("step 12s")), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("loader ") && line.contains("failed") && line.ends_with("the loader gave up")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 11);
        let wide = table(Kind::Actor, Output::Wide);
        assert!(wide.contains("No space left on device") && wide.contains(&format!("actor/{}/store", id(1))), "{wide}");
        assert!(wide.starts_with("ACTOR        KIND         NODE "), "{wide}");
    }

    #[test]
    fn a_narrow_terminal_leaves_columns_out_before_it_cuts_cells() {
        let mut view = view(2);
        for item in &mut view.items {
            match &mut item.properties {
                Properties::Actor(actor) => (actor.name, actor.capacity) = ("link-n002f6469".into(), 16_384),
                Properties::Rank(rank) => rank.phases.values_mut().for_each(|seconds| *seconds = 0.123),
                _ => {}
            }
        }
        for kind in ALL {
            let narrow = render_in(&view, &[kind], Output::Table, 80);
            assert!(narrow.lines().all(|line| width(line) <= 80), "{narrow}");
            assert_eq!(render_in(&view, &[kind], Output::Table, 300), render(&view, &[kind], Output::Table));
        }
        let actors = render_in(&view, &[Kind::Actor], Output::Table, 80);
        assert!(actors.contains("MBOX") && actors.contains("LAST-ERR") && !actors.contains("KIND") && !actors.contains("HWM"), "{actors}");
        let links = render_in(&view, &[Kind::Link], Output::Table, 80);
        assert!(links.contains("RTT") && !links.contains("…"), "{links}");
    }

    #[test]
    fn kinds_of_actors_are_shown_when_they_say_more_than_names() {
        let mut view = view(1);
        if let Some(Properties::Actor(actor)) =
            view.items.iter_mut().map(|item| &mut item.properties).find(|one| matches!(one, Properties::Actor(_)))
        {
            actor.name = "rank-0".into();
        }
        let text = render(&view, &[Kind::Actor], Output::Table);
        assert!(text.starts_with("ACTOR ") && text.contains("rank-0 ") && text.lines().next().unwrap().contains("  KIND "), "{text}");
    }

    #[test]
    fn every_kind_has_the_columns_of_its_table() {
        let cases = [
            (Kind::Run, "NAME  STATE     STEP    EPOCH  LEADER", "demo  training  50/400  3"),
            (
                Kind::Node,
                "NODE       STATE  RANK    HOST   HEARD  RSS     CPU    AGE",
                "in     0 leads  box-0  -      1.2 GB  45m00s  1h01m",
            ),
            (Kind::Rank, "RANK  STATE      PHASE    NODE       LANES  STEP  PACE  DATA", "0     computing  compute"),
            (Kind::Lane, "LANE  STATE      RANK  STEP  DOING      BUSY   WAIT", "0     computing  0     50    computing  900ms  100ms"),
            (
                Kind::Shard,
                "SHARD  STATE  OWNER  COPIES  STEP  LAG  VALUES   BYTES",
                "u0/0   held   0      1       50    0    4000000  32.0 MB",
            ),
            (Kind::Checkpoint, "STEP  STATE   BYTES   PARTS  TOOK  STALL  AGE", "20    intact  1.2 GB  8      2.5s  12ms   1m15s"),
            (Kind::Event, "TIME      EPOCH  STEP  SEV      EVENT", "02:13:03  3      0     info"),
            (Kind::Link, "FROM       TO         STATE  RTT    HEARD  PATIENCE  SENT", "up     0.4ms  20ms   2.0s"),
        ];
        for (kind, header, row) in cases {
            let text = table(kind, Output::Table);
            let squeezed: Vec<String> = text.lines().take(2).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            for (line, part) in squeezed.iter().zip([header, row]) {
                let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(line.contains(&part), "{part}\n{text}");
            }
        }
    }

    #[test]
    fn wide_tables_tell_dates_and_whole_sentences() {
        let text = table(Kind::Event, Output::Wide);
        assert!(
            text.contains("2026-11-28 02:13:03") && text.contains(&"nothing was heard for long ".repeat(6).trim_end().to_owned()),
            "{text}"
        );
        assert!(!table(Kind::Event, Output::Table).contains("2026"));
    }

    #[test]
    fn five_hundred_ranks_are_readable_and_quick() {
        let view = view(500);
        let started = Instant::now();
        let text = render(&view, &ALL, Output::Table);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        let widest = text.lines().map(width).max().unwrap();
        assert!(widest <= WIDTH, "{widest}");
        assert!(text.lines().count() > 5000 && text.contains(&id(499)));
    }

    #[test]
    fn long_and_hostile_names_neither_wrap_nor_drive_a_terminal() {
        let mut view = view(3);
        for item in &mut view.items {
            item.state = "x".repeat(300) + "\x1b[2J\n";
            item.reference.push_str("\x1b[31m\n");
        }
        for output in [Output::Table, Output::Wide, Output::Name] {
            let text = render(&view, &[], output);
            assert!(!text.contains('\x1b'), "{text}");
        }
        assert!(render(&view, &ALL, Output::Table).lines().all(|line| width(line) <= WIDTH));
    }

    #[test]
    fn programs_get_whole_items_and_names_that_work() {
        let view = view(2);
        assert_eq!(serde_json::from_str::<View>(&render(&view, &[Kind::Rank], Output::Json)).unwrap(), view);
        let items: Vec<Item> =
            render(&view, &[Kind::Rank], Output::Jsonl).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(items.iter().map(|item| item.reference.as_str()).collect::<Vec<_>>(), ["rank/0", "rank/1"]);
        assert_eq!(render(&view, &[Kind::Rank], Output::Name), "rank/0\nrank/1\n");
    }

    #[test]
    fn without_items_a_table_is_its_header() {
        let empty = View { items: Vec::new(), ..view(1) };
        assert_eq!(render(&empty, &[Kind::Lane], Output::Table), "LANE  STATE  RANK  STEP  DOING  BUSY  WAIT\n");
        assert_eq!(
            render(&empty, &[Kind::Lane], Output::Name)
                + &render(&empty, &[Kind::Lane], Output::Jsonl)
                + &render(&empty, &[], Output::Table),
            ""
        );
        assert!(render(&empty, &[Kind::Lane, Kind::Run], Output::Table).starts_with("NAME"), "kinds come in one order");
    }
}
