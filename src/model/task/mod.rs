//! A task: its state (`phase`), why it doesn't run (`hold`), its attempts (`work`), and its state machine (`step`).
//! Never reads a file or a clock.

mod hold;
mod phase;
mod step;
mod work;

pub use self::{
    hold::{EndedBy, Hold, Problem},
    phase::{Origin, PRIORITY_RANGE, Phase, Task, TaskSpec},
    step::{After, Known, TaskEvent, TaskRefusal, step},
    work::{Delivery, Ending, Filing, Finished, Run, Status, Stop, Work},
};
