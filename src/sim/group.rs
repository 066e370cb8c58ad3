//! Groups of viewers whose figures are asked for apart from all others'.

use serde::{Deserialize, Serialize};

/// A group of honest viewers; one viewer may belong to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// There from the start.
    First,
    /// Came later: in a crowd, or for somebody who left.
    Newcomers,
    /// Playing when measuring begins and still there at the end.
    Stayers,
    /// Left before the end.
    Leavers,
    /// Upload more than the bit rate.
    Contributors,
    /// Upload nothing.
    FreeRiders,
    /// Were cut off from the source by a partition.
    CutOff,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::First,
        Self::Newcomers,
        Self::Stayers,
        Self::Leavers,
        Self::Contributors,
        Self::FreeRiders,
        Self::CutOff,
    ];

    /// Whether it is known of a new viewer that it belongs to it, so that its lags and its start
    /// can be counted.
    #[must_use]
    pub fn is_known_at_birth(self) -> bool {
        use Group::{Contributors, First, FreeRiders, Newcomers};
        matches!(self, First | Newcomers | Contributors | FreeRiders)
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Newcomers => "newcomers",
            Self::Stayers => "stayers",
            Self::Leavers => "leavers",
            Self::Contributors => "contributors",
            Self::FreeRiders => "free_riders",
            Self::CutOff => "cut_off",
        }
    }
}

/// The groups of one viewer, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups(u8);

impl Groups {
    /// The groups of a viewer who comes and uploads `times` the bit rate.
    pub(super) fn at_birth(newcomer: bool, times: f64) -> Self {
        let mut groups = Self::default();
        groups.join(if newcomer { Group::Newcomers } else { Group::First });
        if times > 1.0 {
            groups.join(Group::Contributors);
        } else if times <= 0.0 {
            groups.join(Group::FreeRiders);
        }
        groups
    }

    pub(super) fn join(&mut self, group: Group) {
        self.0 |= 1 << group as u8;
    }

    pub(super) fn has(self, group: Group) -> bool {
        self.0 & (1 << group as u8) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(move |group| self.has(*group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_may_belong_to_several_groups() {
        let mut groups = Groups::at_birth(true, 1.5);
        groups.join(Group::CutOff);
        let got: Vec<Group> = groups.iter().collect();
        assert_eq!(got, [Group::Newcomers, Group::Contributors, Group::CutOff]);
        assert!(Groups::at_birth(false, 0.0).has(Group::FreeRiders));
        let neither = Groups::at_birth(false, 0.5);
        assert!(!neither.has(Group::FreeRiders) && !neither.has(Group::Contributors));
    }
}
