//! A time later than now, for agents that have been up for long: a namespace whose
//! boot clock and monotonic clock are ahead. The wall clock cannot be: the kernel has
//! only one; no agent decides anything by it.

use crate::namespace::Namespace;

/// See the module's description. Gone when dropped.
pub struct Ahead(Namespace);

impl Ahead {
    /// So many seconds. `None` where this system allows no namespaces; it says so on
    /// standard error.
    ///
    /// # Panics
    /// When it is allowed and does not come up.
    #[must_use]
    pub fn new(seconds: u64) -> Option<Self> {
        let seconds = seconds.to_string();
        let arguments = ["-T", "--boottime", &seconds, "--monotonic", &seconds];
        Namespace::new(&arguments, "", "time namespaces").map(Self)
    }

    /// What goes before a command line that is to run at that time.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        self.0.enter("time", "time_for_children")
    }
}
