//! The tokio shell of a connection: what the task and the handles share.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use bytes::BytesMut;
use tokio::sync::{Notify, oneshot};

use super::{
    core::{Core, Event},
    globals::Answer,
    queue::Queue,
    request::{Global, Origin, Target},
    requests::{SIGNALS, Start},
};
use crate::{
    channel::Source,
    error::{Error, Text},
    options::Exit,
};

/// What arrived and nobody has taken yet.
#[derive(Debug)]
pub(super) enum Arrival {
    Session(u32, Box<Start>),
    Direct(u32, Target),
    Forwarded(u32, Origin),
    Global(u64, Global),
}

/// What became of a channel that we asked for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Waiting,
    Opened,
    Refused(u32, Text),
}

/// One channel, as the handles see it.
pub(super) struct Slot {
    /// What the peer has sent, for each source; only our own sessions have a second.
    inputs: [Queue; 2],
    /// Who waits to send, for each source.
    pub(super) writers: [Option<Waker>; 2],
    /// Whether they wait for room in the output, each.
    crowded: [bool; 2],
    /// Whether the peer has closed it, or the connection is over.
    pub(super) closed: bool,
    pub(super) asked: Asked,
    /// Whether a session of ours has started.
    pub(super) started: bool,
    /// How it ended.
    pub(super) exit: Option<Exit>,
    /// The terminal's latest size that was not taken.
    pub(super) size: Option<(u32, u32)>,
    /// Signals that were not taken.
    pub(super) signals: VecDeque<String>,
    /// Something of these, from `closed` on, has changed.
    pub(super) changed: Arc<Notify>,
}

impl Slot {
    fn new() -> Self {
        Self {
            inputs: [Queue::default(), Queue::default()],
            writers: [None, None],
            crowded: [false, false],
            closed: false,
            asked: Asked::Waiting,
            started: false,
            exit: None,
            size: None,
            signals: VecDeque::new(),
            changed: Arc::new(Notify::new()),
        }
    }

    pub(super) fn input(&mut self, source: Source) -> &mut Queue {
        &mut self.inputs[index(source)]
    }

    fn wake_writers(&mut self) {
        for writer in &mut self.writers {
            if let Some(writer) = writer.take() {
                writer.wake();
            }
        }
    }

    fn end_inputs(&mut self, how: &Result<(), Error>) {
        for input in &mut self.inputs {
            input.end(how.clone());
        }
    }

    fn close(&mut self, how: &Result<(), Error>) {
        self.closed = true;
        self.exit.get_or_insert_with(|| {
            Exit::Lost(how.as_ref().err().cloned().unwrap_or(Error::NoStatus))
        });
        self.end_inputs(how);
        self.wake_writers();
        self.changed.notify_waiters();
    }
}

/// What the task and the handles share.
pub(super) struct State {
    pub(super) core: Core,
    pub(super) slots: HashMap<u32, Slot>,
    pub(super) arrivals: VecDeque<Arrival>,
    /// Somebody has arrived, the login is done, or the connection has ended.
    pub(super) arrived: Arc<Notify>,
    /// Whether a client is logged in.
    pub(super) logged_in: bool,
    /// Who waits for answers to requests of ours.
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    /// How the connection ended.
    pub(super) ended: Option<Result<(), Error>>,
    /// Who waits for room in the output, in the order of their coming.
    crowd: VecDeque<(u32, Source)>,
    task: Option<Waker>,
    /// What a call from a handle ran into; the task ends with it.
    failed: Option<Error>,
    /// Whether to end in good order.
    leave: bool,
}

fn index(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}

impl State {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core,
            slots: HashMap::new(),
            arrivals: VecDeque::new(),
            arrived: Arc::new(Notify::new()),
            logged_in: false,
            answers: HashMap::new(),
            ended: None,
            crowd: VecDeque::new(),
            task: None,
            failed: None,
            leave: false,
        }
    }

    /// The channel's slot, which is there from the first that is heard of it.
    pub(super) fn slot(&mut self, id: u32) -> &mut Slot {
        let over = self.ended.clone();
        self.slots.entry(id).or_insert_with(|| {
            let mut slot = Slot::new();
            if let Some(how) = over {
                slot.close(&how);
            }
            slot
        })
    }

    /// Keeps an error for the task, and wakes it if there is anything for it to do.
    pub(super) fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
        if self.failed.is_some() || !self.core.output().is_empty() {
            self.wake_task();
        }
    }

    pub(super) fn leave(&mut self) {
        self.leave = true;
        self.wake_task();
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Has somebody wait who could not send.
    pub(super) fn wait_to_send(&mut self, id: u32, source: Source, waker: &Waker) {
        let exhausted = self.core.is_exhausted(id);
        let which = index(source);
        let slot = self.slot(id);
        slot.writers[which] = Some(waker.clone());
        if !exhausted && !std::mem::replace(&mut slot.crowded[which], true) {
            self.crowd.push_back((id, source));
        }
    }

    /// There is room in the output.
    pub(super) fn wake_crowd(&mut self) {
        for (id, source) in std::mem::take(&mut self.crowd) {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.crowded[index(source)] = false;
            if let Some(writer) = slot.writers[index(source)].take() {
                writer.wake();
            }
        }
    }

    /// Forgets a channel of which no handle is left.
    pub(super) fn release(&mut self, id: u32) {
        self.slots.remove(&id);
        let result = self.core.release(id);
        self.settle(result);
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        let result = self.core.answer(number, answer);
        self.settle(result);
    }

    /// Asks the server for something about listeners. `None` when the connection is over.
    pub(super) fn ask(&mut self, request: &Global) -> Option<oneshot::Receiver<Answer>> {
        let asked = self.core.ask(request);
        let number = asked.as_ref().ok().copied().flatten();
        self.settle(asked.map(drop));
        let (asker, answer) = oneshot::channel();
        self.answers.insert(number?, asker);
        Some(answer)
    }

    fn deliver(&mut self) {
        while let Some(event) = self.core.poll_event() {
            self.handle_event(event);
        }
        // Keys may have been renewed, for which they had to wait, too.
        if !self.crowd.is_empty() && self.core.has_room() {
            self.wake_crowd();
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Session(id, start) => self.arrive(Arrival::Session(id, start)),
            Event::Direct(id, target) => self.arrive(Arrival::Direct(id, target)),
            Event::Global(number, request) => self.arrive(Arrival::Global(number, request)),
            Event::Forwarded(id, origin) => self.arrive(Arrival::Forwarded(id, origin)),
            Event::LoggedIn => {
                self.logged_in = true;
                self.arrived.notify_waiters();
            }
            Event::Answered(number, answer) => {
                if let Some(asker) = self.answers.remove(&number) {
                    // Whoever asked may have given up.
                    let _ = asker.send(answer);
                }
            }
            Event::Opened(id) => self.change(id, |slot| slot.asked = Asked::Opened),
            Event::Refused(id, code, text) => {
                self.change(id, |slot| slot.asked = Asked::Refused(code, text));
            }
            Event::Data(id, source, data) => {
                let length = data.len();
                if !self.slot(id).input(source).push(data) {
                    // Nobody reads it: let the rest of the channel go on.
                    let result = self.core.consumed(id, length);
                    self.settle(result);
                }
            }
            Event::Eof(id) => self.slot(id).end_inputs(&Ok(())),
            Event::Writable(id) => self.slot(id).wake_writers(),
            Event::Size(id, cols, rows) => self.change(id, |slot| slot.size = Some((cols, rows))),
            Event::Signal(id, name) => self.change(id, |slot| {
                if slot.signals.len() < SIGNALS {
                    slot.signals.push_back(name);
                }
            }),
            Event::Started(id) => self.change(id, |slot| slot.started = true),
            Event::Exited(id, exit) => self.change(id, |slot| {
                slot.exit.get_or_insert(exit);
            }),
            Event::Closed(id) => self.slot(id).close(&Ok(())),
            Event::Gone(id) => {
                self.slots.remove(&id);
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        self.arrivals.push_back(arrival);
        self.arrived.notify_waiters();
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Slot)) {
        let slot = self.slot(id);
        change(slot);
        slot.changed.notify_waiters();
    }

    /// The connection is over: everybody hears it.
    pub(super) fn end(&mut self, how: &Result<(), Error>) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(how.clone());
        self.core.handle_end();
        self.answers.clear();
        for (id, slot) in &mut self.slots {
            // What was said of the end before it came counts.
            slot.exit = slot.exit.take().or_else(|| self.core.exit(*id));
            slot.close(how);
        }
        self.arrived.notify_waiters();
    }
}

/// What the task drives.
impl State {
    /// Does what handles have asked for since the last round, and keeps the waker for when they
    /// ask again.
    pub(super) fn begin_round(&mut self, waker: &Waker) -> Result<(), Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if !self.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            self.task = Some(waker.clone());
        }
        if self.leave && !self.core.is_closed() {
            // By application (RFC 4253 section 11.1).
            self.core.disconnect(11, "closing")?;
            self.end(&Ok(()));
        }
        Ok(())
    }

    /// Takes everything that is whole off the input.
    pub(super) fn handle_input(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Error> {
        let result = self.core.handle_input(input, now);
        self.deliver();
        result
    }

    /// The task has ended, in order or with this error.
    pub(super) fn handle_end(&mut self, result: Result<(), Error>) {
        self.deliver();
        self.end(&result);
    }
}
