//! Topics: made, changed, deleted, described.

use serde_json::json;

use super::super::answer::{self, Answer, Refusal};
use super::super::call::{Call, RequestBody};
use super::super::control::Control;
use super::super::routes::OnTopic;
use super::super::views::{NewTopic, TopicChange};

pub(super) async fn answer<C: Control, B: RequestBody>(
    control: &C,
    operation: OnTopic,
    call: Call<'_, B>,
) -> Result<Answer, Refusal> {
    match operation {
        OnTopic::List => Ok(answer::ok(&json!({ "topics": control.topics() }))),
        OnTopic::Create => {
            let (_, topic) = call.json::<NewTopic>().await?;
            let topic = control.create_topic(topic).await?;
            Ok(answer::created(&topic, &format!("/v1/topics/{}", topic.name)))
        }
        OnTopic::Describe => Ok(answer::ok(&control.topic(call.path.topic()).await?)),
        OnTopic::Alter => {
            let (path, change) = call.json::<TopicChange>().await?;
            Ok(answer::ok(&control.alter_topic(path.topic(), change).await?))
        }
        OnTopic::Delete => {
            control.delete_topic(call.path.topic()).await?;
            Ok(answer::done())
        }
    }
}
