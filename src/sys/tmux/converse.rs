//! Matches tmux's answers to questions, without I/O.
//! Takes questions of one or more command lines, and tmux's output; returns the lines to send, and complete answers in
//! the order asked. Owns the pending questions. Never counts blocks to find an answer's end, because a line answers
//! with fewer when one of its commands fails: every question ends with a line that echoes its own token.

use std::collections::VecDeque;

use super::{
    parse::{Block, Event, Parser},
    quote::Command,
};

/// All that tmux said to one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub blocks: Vec<Block>,
    /// Lines outside blocks that came meanwhile: complaints of file reads.
    pub stray: Vec<String>,
}

/// What a piece of the stream completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    Answer(T, Answer),
    Notice(String),
}

/// One connection's questions; `T` is whatever the asker needs back with his answer.
#[derive(Debug)]
pub struct Conversation<T> {
    parser: Parser,
    nonce: String,
    asked: u64,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: T,
    token: String,
    answer: Answer,
}

impl<T> Conversation<T> {
    /// `nonce` must not be guessable by a program in a pane.
    #[must_use]
    pub fn new(nonce: String) -> Self {
        Self { parser: Parser::default(), nonce, asked: 0, waiting: VecDeque::new() }
    }

    /// The bytes to send for a question.
    pub fn ask(&mut self, ticket: T, commands: &[Command]) -> Vec<u8> {
        self.asked += 1;
        let token = format!("{}-{}", self.nonce, self.asked);
        let mut bytes = Vec::new();
        let end = Command::new("display-message").arg("-p").arg(&token);
        for command in commands.iter().chain([&end]) {
            bytes.extend_from_slice(command.line().as_bytes());
            bytes.push(b'\n');
        }
        self.waiting.push_back(Waiting { ticket, token, answer: Answer::default() });
        bytes
    }

    /// Takes what tmux sent.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Heard<T>> {
        let mut events = Vec::new();
        self.parser.push(bytes, &mut events);
        let mut heard = Vec::new();
        for event in events {
            match event {
                Event::Notice(text) => heard.push(Heard::Notice(text)),
                Event::Stray(line) => {
                    if let Some(first) = self.waiting.front_mut() {
                        first.answer.stray.push(line);
                    }
                }
                Event::Block(block) if block.ours => heard.extend(self.answered(block)),
                Event::Block(_) => {}
            }
        }
        heard
    }

    fn answered(&mut self, block: Block) -> Option<Heard<T>> {
        let first = self.waiting.front_mut()?;
        if !(block.ok && block.body == first.token.as_bytes()) {
            first.answer.blocks.push(block);
            return None;
        }
        self.waiting.pop_front().map(|done| Heard::Answer(done.ticket, done.answer))
    }

    /// The question that waits longest.
    #[must_use]
    pub fn oldest(&self) -> Option<&T> {
        self.waiting.front().map(|waiting| &waiting.ticket)
    }

    /// How many questions wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u32, end: &str, body: &str) -> String {
        let body = if body.is_empty() { String::new() } else { format!("{body}\n") };
        format!("%begin 9 {number} 1\n{body}%{end} 9 {number} 1\n")
    }

    fn say(talk: &mut Conversation<u8>, text: &str) -> Vec<Heard<u8>> {
        talk.hear(text.as_bytes())
    }

    fn bodies(heard: &Heard<u8>) -> (u8, Vec<(bool, String)>) {
        match heard {
            Heard::Answer(ticket, answer) => (*ticket, answer.blocks.iter().map(|b| (b.ok, b.text())).collect()),
            Heard::Notice(text) => panic!("a notice: {text}"),
        }
    }

    #[test]
    fn answers_come_back_in_order_whatever_their_number_of_blocks() {
        let mut talk = Conversation::new("n".into());
        let failing = Command::new("a").then(&Command::new("b")).then(&Command::new("c"));
        assert_eq!(talk.ask(1, &[failing]), b"a ; b ; c\ndisplay-message \"-p\" \"n-1\"\n");
        let _sent = talk.ask(2, &[Command::new("d"), Command::new("e")]);
        let heard = say(&mut talk, &(block(3, "error", "no") + &block(4, "end", "n-1") + &block(5, "end", "d")));
        assert_eq!(heard.iter().map(bodies).collect::<Vec<_>>(), [(1, vec![(false, "no".into())])]);
        assert_eq!(talk.oldest(), Some(&2));
        let heard = say(&mut talk, &(block(6, "end", "e") + &block(7, "end", "n-2")));
        assert_eq!(bodies(&heard[0]), (2, vec![(true, "d".into()), (true, "e".into())]));
        assert_eq!(talk.oldest(), None);
    }

    #[test]
    fn hooks_and_notices_in_between_change_nothing() {
        let mut talk = Conversation::new("n".into());
        let _sent = talk.ask(1, &[Command::new("a")]);
        let hook = "%begin 9 2 0\nn-1\n%end 9 2 0\n%sessions-changed\n";
        let heard =
            say(&mut talk, &(hook.to_owned() + &block(3, "end", "x") + "%new-kind 1\n" + &block(4, "end", "n-1")));
        assert_eq!(heard[0], Heard::Notice("%sessions-changed".into()));
        assert_eq!(heard[1], Heard::Notice("%new-kind 1".into()));
        assert_eq!(bodies(&heard[2]), (1, vec![(true, "x".into())]));
    }

    #[test]
    fn a_screen_that_shows_a_token_does_not_end_another_question() {
        let mut talk = Conversation::new("n".into());
        let _sent = talk.ask(1, &[Command::new("capture-pane")]);
        let screen = block(2, "end", "n-2") + &block(3, "end", "one\nn-1") + &block(4, "error", "n-1");
        assert_eq!(say(&mut talk, &screen), []);
        assert_eq!(bodies(&say(&mut talk, &block(5, "end", "n-1"))[0]).1.len(), 3);
    }

    #[test]
    fn a_stray_line_belongs_to_the_question_being_answered() {
        let mut talk = Conversation::new("n".into());
        let _sent = talk.ask(1, &[Command::new("load-buffer")]);
        let heard = say(&mut talk, &(block(2, "end", "") + "/gone: No such file\n" + &block(3, "end", "n-1")));
        let Heard::Answer(1, answer) = &heard[0] else { panic!("{heard:?}") };
        assert_eq!(answer.stray, ["/gone: No such file"]);
    }

    #[test]
    fn answers_nobody_asked_for_are_dropped() {
        let mut talk: Conversation<u8> = Conversation::new("n".into());
        assert_eq!(say(&mut talk, &(block(1, "end", "x") + "stray\n")), []);
        let _sent = talk.ask(1, &[Command::new("a")]);
        let _sent = talk.ask(2, &[Command::new("b")]);
        assert_eq!((talk.oldest(), talk.waiting()), (Some(&1), 2));
    }
}
