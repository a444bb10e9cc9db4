//! Renders the main loop's state to the screen.

use super::super::view::{Activity, Bottom, View};
use super::{App, Phase};

impl App {
    pub(super) fn draw(&mut self) {
        let shown = self.input.shown();
        let mut activity = Activity::None;
        let mut title = "✳ demo";
        let mut footer = "  ready";
        let mut ask = None;
        match &self.phase {
            Phase::LimitMenu => {}
            Phase::Idle => {
                if self.plan().spinner {
                    self.spun += 1;
                    activity = Activity::Spinning { frame: self.spun };
                }
            }
            Phase::Busy(busy) => {
                footer = "  esc to interrupt";
                title = "◐ demo";
                activity = if busy.background {
                    Activity::Background
                } else {
                    Activity::Working { seconds: busy.started.elapsed().as_secs() }
                };
                if let Some(asked) = &busy.ask {
                    title = "✋ demo";
                    activity = Activity::None;
                    ask = Some(asked);
                }
            }
        }
        if self.armed {
            footer = "  Press Ctrl-C again to exit";
        }
        let bottom = match (&self.phase, ask) {
            (Phase::LimitMenu, _) => Bottom::LimitMenu,
            (_, Some(ask)) => Bottom::Ask { command: &ask.command, yes: ask.yes },
            (_, None) => Bottom::Box { text: &shown, footer },
        };
        let queued: Vec<String> = self.prompts.iter().cloned().collect();
        let view = View { cols: self.screen.cols(), partial: self.reply.partial(), queued: &queued, activity, bottom };
        let (lines, cursor) = view.lines();
        let finished = self.reply.take();
        self.screen.draw(&finished, lines, cursor, title);
    }
}
