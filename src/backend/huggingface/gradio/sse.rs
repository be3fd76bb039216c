//! Server-sent events, as far as Gradio uses them.
//!
//! Owns splitting a body into frames, whatever pieces it arrives in, and the time at which a stream
//! last sent data. It does not interpret events, [`super::events`] does. It retries nothing,
//! because a stream cannot be resumed.

use std::{collections::VecDeque, time::Duration};

use reqwest::Response;
use tokio::time::Instant;

use crate::backend::http::send::describe;

/// The maximum size of one frame in bytes. An output lists files and may quote a traceback.
const MAX_FRAME: usize = 4 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::backend::huggingface) struct Frame {
    /// Its name; empty in the queue protocol.
    pub(in crate::backend::huggingface) event: String,
    pub(in crate::backend::huggingface) data: String,
}

#[derive(Debug, Default)]
struct FrameSplitter {
    line: Vec<u8>,
    frame: Frame,
    /// Whether the frame has data, even if that is empty.
    has_data: bool,
}

impl FrameSplitter {
    /// Adds bytes. Returns false if a frame is too large to be valid.
    fn push(&mut self, bytes: &[u8], out: &mut VecDeque<Frame>) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.frame.data.len() + piece.len() > MAX_FRAME {
                return false;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line(out);
            }
        }
        true
    }

    fn end_line(&mut self, out: &mut VecDeque<Frame>) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            if std::mem::take(&mut self.has_data) {
                out.push_back(frame);
            }
            return;
        }
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.frame.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            // Comments, and members that Gradio does not use.
            _ => {}
        }
    }

    /// Returns the remaining frame at the end: Gradio sometimes ends a stream without its
    /// last line.
    fn finish(&mut self, out: &mut VecDeque<Frame>) {
        if !self.line.is_empty() {
            self.end_line(out);
        }
        self.end_line(out);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::huggingface) enum StreamItem {
    Frame(Frame),
    /// The stream is over. The reason is set if it did not end normally.
    Ended(Option<String>),
}

#[derive(Debug)]
pub(in crate::backend::huggingface) struct EventStream {
    response: Response,
    splitter: FrameSplitter,
    ready: VecDeque<Frame>,
    last_event_at: Instant,
    ended: Option<StreamItem>,
}

impl EventStream {
    /// Starts to read a body.
    pub(in crate::backend::huggingface) fn new(response: Response) -> Self {
        Self {
            response,
            splitter: FrameSplitter::default(),
            ready: VecDeque::new(),
            last_event_at: Instant::now(),
            ended: None,
        }
    }

    /// Returns the next event. It is cancel safe: dropping the future loses nothing.
    pub(in crate::backend::huggingface) async fn next(&mut self) -> StreamItem {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return StreamItem::Frame(frame);
            }
            if let Some(over) = &self.ended {
                return over.clone();
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => {
                    self.last_event_at = Instant::now();
                    if !self.splitter.push(&bytes, &mut self.ready) {
                        let reason = "an event was too large".to_owned();
                        self.ended = Some(StreamItem::Ended(Some(reason)));
                    }
                }
                Ok(None) => self.end(None),
                Err(error) => self.end(Some(describe(&error))),
            }
        }
    }

    fn end(&mut self, reason: Option<String>) {
        self.splitter.finish(&mut self.ready);
        self.ended = Some(StreamItem::Ended(reason));
    }

    /// Returns how long the stream has been silent. Only correct directly after the stream
    /// was read.
    pub(in crate::backend::huggingface) fn idle_for(&self) -> Duration {
        self.last_event_at.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut cutter, mut out) = (FrameSplitter::default(), VecDeque::new());
        for piece in pieces {
            assert!(cutter.push(piece, &mut out));
        }
        cutter.finish(&mut out);
        out.into()
    }

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned() }
    }

    const BODY: &str = ": hello\r\n\r\nevent: heartbeat\ndata: null\n\ndata: {\"msg\":\ndata: \"é\"}\r\n\r\nevent: error\ndata: null";

    #[test]
    fn frames_are_cut_with_names_with_several_lines_and_without_a_last_one() {
        let frames =
            [frame("heartbeat", "null"), frame("", "{\"msg\":\n\"é\"}"), frame("error", "null")];
        assert_eq!(cut(&[BODY.as_bytes()]), frames);
        assert_eq!(cut(&[b"event: lonely\n\n"]), [], "an event without data is none");
    }

    #[test]
    fn a_frame_without_an_end_is_given_up() {
        let (mut cutter, mut out) = (FrameSplitter::default(), VecDeque::new());
        let piece = vec![b'x'; 1 << 20];
        assert!((0..5).any(|_| !cutter.push(&piece, &mut out)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_pieces_are_cut(cuts in prop::collection::vec(0..BODY.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut pieces, mut rest, mut at) = (Vec::new(), BODY.as_bytes(), 0);
            for place in cuts {
                let (piece, after) = rest.split_at(place - at);
                pieces.push(piece);
                (rest, at) = (after, place);
            }
            pieces.push(rest);
            prop_assert_eq!(cut(&pieces), cut(&[BODY.as_bytes()]));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = cut(&[&bytes]);
        }
    }
}
