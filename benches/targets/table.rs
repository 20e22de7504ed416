//! The table that all cases add their rows to.

use std::fmt;

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure<'a> {
    /// What was measured.
    pub(crate) what: &'a str,
    pub(crate) target: Option<Target>,
    pub(crate) measured: f64,
    /// Unit of target and figure; empty for a ratio.
    pub(crate) unit: &'a str,
    /// Decimals that say something.
    pub(crate) decimals: usize,
    /// What the figure was made of.
    pub(crate) how: String,
}

/// All rows so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    pub(crate) fn add(&mut self, figure: Figure<'_>) {
        let Figure { what, target, measured, unit, decimals, how } = figure;
        let show = |value: f64| {
            let text = format!("{value:.decimals$}");
            if unit.is_empty() { text } else { format!("{text} {unit}") }
        };
        let (wanted, verdict) = match target {
            Some(target @ Target::AtMost(most)) => (format!("at most {}", show(most)), Some(target)),
            Some(target @ Target::AtLeast(least)) => (format!("at least {}", show(least)), Some(target)),
            None => (String::new(), None),
        };
        let verdict = verdict.map_or("", |target| if target.is_met(measured) { "met" } else { "MISSED" });
        self.row([what.to_owned(), wanted, show(measured), verdict.to_owned(), how]);
    }

    /// A row for what is so or is not.
    pub(crate) fn holds(&mut self, what: &str, wanted: &str, measured: String, holds: bool, how: String) {
        let verdict = if holds { "met" } else { "MISSED" };
        self.row([what.to_owned(), wanted.to_owned(), measured, verdict.to_owned(), how]);
    }

    /// A row for what could not be measured.
    pub(crate) fn not_measured(&mut self, what: &str, why: &str) {
        self.row([what.to_owned(), String::new(), String::new(), "NOT MEASURED".to_owned(), why.to_owned()]);
    }

    fn row(&mut self, row: [String; 5]) {
        self.rows.push(row.map(|cell| cell.replace(['\n', '|'], " ")));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | target | measured | | how |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
