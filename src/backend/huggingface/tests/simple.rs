//! The simple protocol, which reports no progress. It is used for a Space whose queue protocol
//! is unknown.

use super::*;

async fn world(version: Version) -> World {
    let world = World::new(version).await;
    world.flux.state().protocol = "sse_v9";
    world.mesh.state().protocol = "sse_v9";
    world
}

fn event(name: &str, data: &str) -> Say {
    Say::Text(format!("event: {name}\ndata: {data}\n\n"))
}

#[tokio::test]
async fn it_makes_the_whole_way_in_every_version() {
    for version in Version::ALL {
        let world = world(version).await;
        let beat = event("heartbeat", "null");
        world.flux.play([beat.clone(), event("generating", "[null]"), Say::Success]);
        world.mesh.play([beat, Say::Success]);
        let result = world.run().await;
        assert_eq!(succeeded(&result).len(), 2, "{version:?}");
        assert_eq!(world.mesh.state().calls[0].1.len(), 7, "hidden state is not sent here");
        assert_eq!(world.flux.count(&format!("POST {}/call/infer", version.prefix())), 1);
    }
}

#[tokio::test]
async fn an_error_has_its_words_in_six_and_none_before() {
    for (version, message) in [
        (Version::V4_44, "without saying why"),
        (Version::V5_49, "without saying why"),
        (Version::V6_31, "no GPU left"),
    ] {
        let world = world(version).await;
        world.flux.play([fail("no GPU left")]);
        let (fault, _) = world.failure().await;
        assert!(fault.message.contains(message), "{version:?}: {}", fault.message);
    }
}

#[tokio::test]
async fn a_result_that_is_gone_says_so_in_a_string() {
    let world = world(Version::V5_49).await;
    world.flux.play([event("error", "\"404: Session not found.\"")]);
    let (fault, _) = world.failure().await;
    assert!(fault.message.contains("lost") && fault.message.contains("404"), "{}", fault.message);
}

#[tokio::test]
async fn it_cannot_be_cancelled_there_so_it_is_not_waited_for() {
    let world = world(Version::V5_49).await;
    world.flux.play([Say::Hold]);
    let request = world.submit().await;
    world.spaces.observe(&request).await.expect("known");
    assert_eq!(world.spaces.cancel(&request).await.expect("known"), CancelReply::Requested);
    assert!(matches!(world.end(&request).await, RunResult::Cancelled { .. }));
    assert_eq!(world.flux.count("POST /gradio_api/cancel"), 0);
}
