//! Key handling in the input box and in the permission dialog.

use super::super::keys::Key;
use super::super::turn::Order;
use super::{App, Busy, Exit, Phase};

impl App {
    pub(super) fn keys(&mut self, keys: Vec<Key>) -> Option<Exit> {
        keys.into_iter().find_map(|key| self.key(key))
    }

    fn key(&mut self, key: Key) -> Option<Exit> {
        if let Phase::Busy(Busy { handle, ask: Some(ask), .. }) = &mut self.phase {
            match key {
                Key::Enter => handle.order(if ask.yes { Order::Allow } else { Order::Deny }),
                Key::Char('1' | 'y') => handle.order(Order::Allow),
                Key::Char('2' | 'n') | Key::Escape | Key::CtrlC => handle.order(Order::Deny),
                Key::Up | Key::Down => ask.yes = !ask.yes,
                Key::Char(_) | Key::Paste(_) | Key::NewLine | Key::Backspace | Key::CtrlD => {}
            }
            return None;
        }
        if matches!(self.phase, Phase::LimitMenu) {
            match key {
                Key::Enter | Key::Char('1' | '2') | Key::Escape | Key::CtrlC => self.next_prompt(),
                Key::Char(_) | Key::Paste(_) | Key::NewLine | Key::Backspace | Key::Up | Key::Down | Key::CtrlD => {}
            }
            return None;
        }
        let armed = std::mem::take(&mut self.armed);
        match key {
            Key::Char(c) => self.input.push(c),
            Key::NewLine => self.input.push('\n'),
            Key::Backspace => self.input.backspace(),
            Key::Paste(_) if self.lost < self.plan().swallow_paste => self.lost += 1,
            Key::Paste(text) => {
                self.input.paste(text);
                self.eat = self.plan().swallow_enter;
            }
            Key::Enter if self.eat > 0 => self.eat -= 1,
            Key::Enter => return self.submit(),
            Key::Escape => {
                if let Phase::Busy(busy) = &self.phase {
                    busy.handle.order(Order::Interrupt);
                }
            }
            Key::CtrlC | Key::CtrlD if armed => return Some(Exit::Asked),
            Key::CtrlC => {
                self.input.clear();
                self.armed = true;
            }
            Key::CtrlD => self.armed = self.input.is_empty(),
            Key::Up | Key::Down => {}
        }
        None
    }

    fn submit(&mut self) -> Option<Exit> {
        let text = self.input.take();
        match text.trim() {
            "" => return None,
            "/exit" => return Some(Exit::Asked),
            _ => self.prompts.push_back(text),
        }
        if matches!(self.phase, Phase::Idle) {
            self.next_prompt();
        }
        None
    }
}
