//! A task: what it is and where it stands (`phase`), why it doesn't run (`hold`), what is done about it (`work`), and the
//! machine of what may happen to it (`step`). Never reads a file or a clock.

mod hold;
mod phase;
mod step;
mod work;

pub use self::{
    hold::{Hold, Problem},
    phase::{Origin, PRIORITY_RANGE, Phase, Task, TaskSpec},
    step::{After, Known, TaskEvent, TaskRefusal, step},
    work::{Delivery, Ending, Filing, Finished, Run, Status, Stop, Work},
};
