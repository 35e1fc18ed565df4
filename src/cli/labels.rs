//! Labels on the command line: what an add is to give, and what others are to take.

use crate::engine::store::labels::{LabelRule, Labelling};
use crate::format::label::{Label, LabelFilter, Labels};
use crate::spelling::spelled;

/// Labels that an add gives.
#[derive(Debug, clap::Args)]
pub(super) struct LabelArgs {
    /// A label for every entry of this add; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = str::parse::<Label>)]
    label: Vec<Label>,
    /// A label for the entries that match: `*` stops at `/`, `**/` does not; a GLOB without `/` is for names, one with `/`
    /// for whole paths. May be given several times; later rules win.
    #[arg(long, value_name = "GLOB KEY=VALUE", value_parser = str::parse::<LabelRule>)]
    label_rule: Vec<LabelRule>,
    /// Label packages `type=wheel`, `crate`, `npm`, `jar`, `deb` or `rpm`, as name and first bytes tell. Labels and rules
    /// given here count more.
    #[arg(long)]
    detect_types: bool,
}

impl LabelArgs {
    pub(super) fn labelling(&self) -> Labelling {
        Labelling { all: self.label.clone(), rules: self.label_rule.clone(), detect_types: self.detect_types }
    }
}

/// Labels that entries must have.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only entries with this label; may be given several times: of one key, any of the values, of several keys, all.
    #[arg(long, value_name = "KEY=VALUE", value_parser = str::parse::<Label>)]
    label: Vec<Label>,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> LabelFilter {
        self.label.iter().cloned().collect()
    }
}

/// Labels in a line: `type=wheel repository=pypi`.
pub(super) fn line_of(labels: &Labels) -> String {
    labels.iter().map(|label| spelled(&label.to_string()).to_string()).collect::<Vec<_>>().join(" ")
}
