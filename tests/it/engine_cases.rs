//! The rules for debouncing, triggers and the engine as data: `cases/engine.toml`, one virtual day
//! in microseconds.

use std::time::Duration;

use conjured::domain::{
    engine::{
        Engine,
        event::{Baseline, Effect, Event, JobSource, JobStage, ProjectId, RequestTicket},
    },
    fingerprint::Fingerprint,
    inputs::{
        debounce::InputState,
        trigger::{AtStart, Settings, TriggerOn, WhenBusy},
    },
    job::Inputs,
    time::Moment,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    known: Option<String>,
    #[serde(default)]
    settings: Overrides,
    #[serde(default)]
    show: Vec<String>,
    projects: Option<i64>,
    max_in_flight: Option<usize>,
    events: Vec<String>,
    expect: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Overrides {
    at_start: Option<AtStart>,
    on: Option<TriggerOn>,
    when_busy: Option<WhenBusy>,
    hold_while_sculpting: Option<bool>,
    render_quiet_ms: Option<u64>,
    max_jobs_per_hour: Option<u32>,
}

impl Overrides {
    fn settings(&self) -> Settings {
        let default = Settings::default();
        let mut render = default.render;
        if let Some(quiet) = self.render_quiet_ms {
            render.quiet = Duration::from_millis(quiet);
        }
        Settings {
            at_start: self.at_start.unwrap_or(default.at_start),
            on: self.on.unwrap_or(default.on),
            when_busy: self.when_busy.unwrap_or(default.when_busy),
            max_jobs_per_hour: self.max_jobs_per_hour.unwrap_or(default.max_jobs_per_hour),
            hold_while_sculpting: self.hold_while_sculpting.unwrap_or(default.hold_while_sculpting),
            render,
            ..default
        }
    }
}

/// The clock of the cases starts well after zero, like every clock.
const START: u64 = 1 << 40;

struct Run {
    engine: Engine,
    show: Vec<String>,
    seen: Vec<String>,
    hands: bool,
}

impl Run {
    fn new(case: &Case) -> Self {
        let mut engine =
            Engine::new(case.settings.settings(), case.max_in_flight.unwrap_or(1), Vec::new());
        for id in 1..=case.projects.unwrap_or(1) {
            let remembered = match &case.known {
                None => Baseline::default(),
                Some(known) => {
                    let (prompt, render) = known.split_once(' ').expect("two contents");
                    Baseline {
                        known: true,
                        prompt: Some(content(prompt)),
                        render: Some(content(render)),
                    }
                }
            };
            engine.add(ProjectId(id), remembered);
        }
        Self { engine, show: case.show.clone(), seen: Vec::new(), hands: false }
    }

    /// Advances virtual time to `until`, with a tick at every deadline, and then handles the event.
    fn go(&mut self, from: u64, until: u64, event: Option<Event>) {
        let mut now = from;
        while let Some(deadline) = self.engine.deadline(at(now)).filter(|d| *d <= at(until)) {
            assert!(deadline > at(now), "a deadline lies ahead, or the daemon would spin");
            now = deadline.as_micros() / 1000 - START / 1000;
            self.handle(now, Event::Tick);
        }
        if let Some(event) = event {
            self.handle(until, event);
        }
    }

    fn handle(&mut self, now: u64, event: Event) {
        for effect in self.engine.handle(at(now), event) {
            if let Some(message) = self.words(&effect) {
                self.seen.push(format!("{now} {message}"));
            }
            // The daemon looks at once and reports.
            if let Effect::CheckHands { project } = effect {
                self.handle(now, Event::HandsChecked { project, tracked: self.hands });
            }
        }
    }

    fn words(&self, effect: &Effect) -> Option<String> {
        let mark = |project: &ProjectId| match project.0 {
            1 => String::new(),
            other => format!("@{other}"),
        };
        let shown = |what: &str| self.show.iter().any(|show| show == what);
        match effect {
            Effect::Prepare { project, inputs } => {
                shown("prepare").then(|| format!("prepare{} {}", mark(project), letters(*inputs)))
            }
            Effect::Start { project, work, cause } => {
                let work = match work {
                    JobSource::Snapshot(inputs) => letters(*inputs),
                    JobSource::Requested(ticket) => format!("#{}", ticket.0),
                };
                Some(format!("start{} {} {work}", mark(project), cause.name()))
            }
            Effect::Supersede { project } => Some(format!("replace{}", mark(project))),
            Effect::CheckHands { project } => {
                shown("hands").then(|| format!("hands{}", mark(project)))
            }
            Effect::SetBaseline { project, prompt, render } => shown("baseline").then(|| {
                let letter = |f: &Option<Fingerprint>| f.map_or("-".into(), letter_of);
                format!("baseline{} {} {}", mark(project), letter(prompt), letter(render))
            }),
        }
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(START / 1000 * 1000).plus(Duration::from_millis(millis))
}

fn content(letter: &str) -> Fingerprint {
    Fingerprint::of(letter.as_bytes())
}

fn letter_of(fingerprint: Fingerprint) -> String {
    ('a'..='z')
        .map(String::from)
        .find(|letter| content(letter) == fingerprint)
        .expect("a content of the cases")
}

fn letters(inputs: Inputs) -> String {
    format!("{} {}", letter_of(inputs.prompt), letter_of(inputs.render))
}

fn sight(word: &str) -> InputState {
    match word {
        "-" => InputState::Missing,
        "!" => InputState::Refused("refused".into()),
        _ => match word.strip_prefix('~') {
            Some(size) => InputState::Incomplete { size: size.parse().expect("a size") },
            None => InputState::Complete(content(word)),
        },
    }
}

fn event(words: &[&str], now: u64) -> Option<Event> {
    let (verb, project) = words[0].split_once('@').unwrap_or((words[0], "1"));
    let project = ProjectId(project.parse().expect("a project"));
    Some(match verb {
        "see" => Event::Scanned { project, prompt: sight(words[1]), render: sight(words[2]) },
        "moved" => Event::StageChanged {
            project,
            stage: match words[1] {
                "waiting" => JobStage::Waiting,
                "submitting" => JobStage::Submitting,
                "queued" => JobStage::Queued,
                "running" => JobStage::Running,
                "placing" => JobStage::Placing,
                "handing" => JobStage::HandingOver,
                other => panic!("no stage `{other}`"),
            },
        },
        "ended" => Event::Ended { project, placed: words[1] == "placed" },
        "notstarted" => Event::NotStarted {
            project,
            retry_at: words[1].parse().ok().map(|wait: u64| at(now + wait)),
            reason: "no".into(),
        },
        "restored" => Event::Restored { project },
        "ask" => {
            Event::Requested { project, ticket: RequestTicket(words[1].parse().expect("a number")) }
        }
        "took" => Event::InputsTaken {
            project,
            inputs: Inputs { prompt: content(words[1]), render: content(words[2]) },
        },
        "imported" => Event::Imported { project },
        "touched" => Event::Touched { project },
        "stop" => Event::Stopping,
        "end" => return None,
        other => panic!("no event `{other}`"),
    })
}

#[test]
fn every_case_of_the_table_holds() {
    let file: File = toml::from_str(include_str!("cases/engine.toml")).expect("the table parses");
    let mut wrong = Vec::new();
    for case in &file.case {
        let mut run = Run::new(case);
        let mut last = 0;
        for line in &case.events {
            let words: Vec<&str> = line.split_whitespace().collect();
            let now: u64 = words[0].parse().expect("a time");
            if let ["hands", whether] = words[1..] {
                run.go(last, now, None);
                (run.hands, last) = (whether == "in", now);
                continue;
            }
            run.go(last, now, event(&words[1..], now));
            last = now;
        }
        if run.seen != case.expect {
            wrong.push(format!(
                "{}\n  expected {:?}\n  saw      {:?}",
                case.name, case.expect, run.seen
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        file.case.len(),
        wrong.join("\n")
    );
}
