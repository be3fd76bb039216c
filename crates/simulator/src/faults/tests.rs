//! Tests for which call and which run gets which fault.

use super::*;

fn http(status: u16) -> Order {
    Fault::Http { status, retry_after: None, body: None, accepted: false }.into()
}

#[test]
fn orders_are_served_one_after_the_other_each_as_often_as_it_says() {
    let mut orders = Orders::default();
    orders.add(http(503).times(2));
    orders.add(http(429));
    let mut served = Vec::new();
    for _ in 0..4 {
        served.push(orders.at(Call::Submit, None).map(|fault| match fault {
            Fault::Http { status, .. } => status,
            other => panic!("{other:?} was never ordered"),
        }));
    }
    assert_eq!(served, [Some(503), Some(503), Some(429), None]);
    assert!(orders.open().is_empty(), "what was served is gone");
}

#[test]
fn an_order_waits_for_its_call_and_its_turn_and_all_means_all() {
    let mut orders = Orders::default();
    orders.add(http(500).on(Call::Status).after(1).always());
    assert_eq!(orders.at(Call::Submit, None), None, "another call");
    assert_eq!(orders.at(Call::Status, None), None, "the first passes");
    for _ in 0..5 {
        assert!(orders.at(Call::Status, None).is_some());
    }
    assert!(orders.in_a_run().is_empty());
}

#[test]
fn faults_of_a_run_meet_and_a_download_fault_finds_its_product() {
    let mut orders = Orders::default();
    orders.add(Fault::ColonIds.into());
    orders.add(Fault::NestedText.into());
    orders.add(Order::from(Fault::CutAt { fraction: 0.5 }).only(Product::Mesh));
    assert_eq!(orders.in_a_run(), [Fault::ColonIds, Fault::NestedText]);
    assert_eq!(orders.at(Call::Download, Some(Product::Image)), None);
    assert!(orders.at(Call::Download, Some(Product::Mesh)).is_some());
}

#[test]
fn the_json_of_an_order_reads_as_the_documentation_says() {
    for text in [
        r#"{"fault":"accept_then_drop"}"#,
        r#"{"fault":{"http":{"status":429,"retry_after":"2"}},"on":"status","times":3}"#,
        r#"{"fault":{"file":{"product":"mesh","content":{"huge":{"megabytes":200}}}},"times":"all"}"#,
        r#"{"fault":"result_400005","after":1}"#,
        r#"{"fault":{"hang":{}},"on":"any"}"#,
    ] {
        let order: Order = serde_json::from_str(text).expect(text);
        let again = serde_json::to_string(&order).expect("an order serialises");
        assert_eq!(serde_json::from_str::<Order>(&again).expect("and back"), order);
    }
    assert!(serde_json::from_str::<Order>(r#"{"fault":"html_body","time":2}"#).is_err());
}
