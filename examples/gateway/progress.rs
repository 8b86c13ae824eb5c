//! The progress on standard error while the machine is being provisioned.

use std::time::Duration;

use azure_dps::provisioning::Progress;
use indicatif::ProgressBar;

use crate::values::printable;

pub enum Reporter {
    /// No progress.
    Silent,
    /// Standard error is a file or a journal.
    Lines,
    /// Standard error is a terminal.
    Spinner(ProgressBar),
}

impl Reporter {
    pub fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        let spinner = ProgressBar::new_spinner();
        if spinner.is_hidden() {
            return Self::Lines;
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self::Spinner(spinner)
    }

    pub fn progress(&self, progress: Progress) {
        match progress {
            Progress::Connected => self.step("Connected"),
            Progress::Registering => self.step("Registering"),
            Progress::LookingUp => self.step("Looking up"),
            Progress::Assigning => self.step("Assigning"),
            Progress::Assigned => self.step("Assigned"),
            Progress::Retrying { error, wait: Duration::ZERO, .. } => {
                self.retrying(&format!("with the other key: {error}"));
            }
            Progress::Retrying { error, wait, failures } => {
                let (seconds, attempt) = (wait.as_secs_f64(), u16::from(failures) + 1);
                self.retrying(&format!("in {seconds:.1} s, attempt {attempt}: {error}"));
            }
            // The failure is printed at the end.
            _ => {}
        }
    }

    /// Shows the current step.
    pub fn step(&self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Lines => eprintln!("{text}"),
            Self::Spinner(spinner) => spinner.set_message(text.to_owned()),
        }
    }

    /// Reports a retry and its reason. The line stays visible.
    fn retrying(&self, reason: &str) {
        let text = format!("Retrying {}", printable(reason));
        match self {
            Self::Silent => {}
            Self::Lines => eprintln!("{text}"),
            Self::Spinner(spinner) => {
                spinner.println(text);
                spinner.set_message("Waiting to try again");
            }
        }
    }
}
