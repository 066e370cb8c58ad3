//! The way from the swarm to those who read a stream: one bounded channel each, and credit back.
//!
//! A reader that does not keep up is the swarm's business (it moves him to a later key frame); all
//! it needs to know is how many pieces he can still take. Whoever writes the bytes out says so
//! with [`ReaderHandle::taken`], and by dropping the handle that he is gone.
#![allow(clippy::disallowed_methods)]

use tokio::sync::{mpsc, watch};

use crate::swarm::io::{Delivery, In, ReaderId};

/// Pieces that a reader is given ahead of what he has written out.
pub const CREDIT_PIECES: u32 = 8;

/// Deliveries that may wait for one reader: the pieces he has credit for, and as many words about
/// skipped ones.
const QUEUE_LEN: usize = 2 * CREDIT_PIECES as usize;

/// The reader's end.
#[derive(Debug)]
pub struct ReaderHandle {
    items: mpsc::Receiver<Delivery>,
    taken: watch::Sender<u64>,
}

impl ReaderHandle {
    /// The next delivery; `None` if the swarm is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.items.recv().await
    }

    /// The next delivery, waiting on a thread of its own.
    pub fn blocking_next(&mut self) -> Option<Delivery> {
        self.items.blocking_recv()
    }

    /// The next delivery, for a body that is polled.
    pub(super) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Delivery>> {
        self.items.poll_recv(context)
    }

    /// A piece was written out: the reader can take one more.
    pub fn taken(&self) {
        self.taken.send_modify(|count| *count += 1);
    }
}

/// Opens the way for `reader`: the swarm's driver puts deliveries into the sender, and finds
/// [`In::ReaderCredit`] and at last [`In::RemoveReader`] among its `inputs`. It has announced the
/// reader with [`In::AddReader`] before.
///
/// The sender never fills with what credit covers; the driver need not wait for room, a reader
/// whose queue is full can be dropped. Must be called on a runtime.
#[must_use]
pub fn open_reader<S>(
    reader: ReaderId,
    inputs: mpsc::Sender<S>,
) -> (mpsc::Sender<Delivery>, ReaderHandle)
where
    S: From<In> + Send + 'static,
{
    let (tx, items) = mpsc::channel(QUEUE_LEN);
    let (taken, counter) = watch::channel(0);
    tokio::spawn(return_credit(reader, counter, inputs));
    (tx, ReaderHandle { items, taken })
}

async fn return_credit<S: From<In>>(
    reader: ReaderId,
    mut counter: watch::Receiver<u64>,
    inputs: mpsc::Sender<S>,
) {
    let mut pieces = CREDIT_PIECES;
    let mut seen = 0;
    loop {
        if inputs.send(In::ReaderCredit { reader, pieces }.into()).await.is_err() {
            return;
        }
        if counter.changed().await.is_err() {
            break;
        }
        let count = *counter.borrow_and_update();
        pieces = u32::try_from(count - seen).unwrap_or(u32::MAX);
        seen = count;
    }
    // Nobody is left to be told if this fails.
    let _ = inputs.send(In::RemoveReader { reader }.into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(inputs: &mut mpsc::Receiver<In>) -> (ReaderId, Option<u32>) {
        match inputs.recv().await {
            Some(In::ReaderCredit { reader, pieces }) => (reader, Some(pieces)),
            Some(In::RemoveReader { reader }) => (reader, None),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn credit_comes_back_as_pieces_are_taken_and_ends_with_the_reader() {
        let (tx, mut inputs) = mpsc::channel::<In>(1);
        let me = ReaderId(7);
        let (deliveries, mut handle) = open_reader(me, tx);
        assert_eq!(next(&mut inputs).await, (me, Some(CREDIT_PIECES)));
        deliveries.send(Delivery::End).await.expect("room");
        assert_eq!(handle.next().await, Some(Delivery::End));
        handle.taken();
        handle.taken();
        assert_eq!(next(&mut inputs).await, (me, Some(2)));
        drop(handle);
        assert_eq!(next(&mut inputs).await, (me, None));
    }
}
