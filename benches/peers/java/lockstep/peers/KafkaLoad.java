package lockstep.peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The loads on Apache Kafka's own client. */
public final class KafkaLoad extends Load {
    private static final short REPLICAS = 3;
    private static final int BUFFER_BYTES = 64 << 20;
    /** A sender needs room for several batches of each partition, or it waits for its own buffer. */
    private static final int BATCHES_EACH = 4;
    /** The brokers remove a topic's files a second after it: that is to be over when the next case begins. */
    private static final long FILES_STAY_MS = 3_000;
    private static final Duration POLL = Duration.ofMillis(100);

    private KafkaLoad(Map<String, String> options) {
        super(options);
    }

    public static void main(String[] arguments) {
        new KafkaLoad(options(arguments)).run(arguments[0]);
    }

    @Override
    void createTopic() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, REPLICAS))).all().get();
        }
    }

    @Override
    void deleteTopic() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            admin.deleteTopics(List.of(topic)).all().get();
        }
        Thread.sleep(FILES_STAY_MS);
    }

    /** Acknowledged by all in-sync replicas, idempotent; the rest as the case asks, or the client's defaults. */
    @Override
    Sender sender() {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", brokers);
        config.put("acks", "all");
        config.put("batch.size", Math.min(number("batch-bytes", 1 << 20), BUFFER_BYTES / BATCHES_EACH / partitionsOfSender()));
        config.put("linger.ms", number("linger", 0));
        config.put("max.request.size", 8 << 20);
        config.put("buffer.memory", (long) BUFFER_BYTES);
        var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        producer.partitionsFor(topic);
        return new Sender() {
            @Override
            public void send(int partition, byte[] value, Done done) {
                var record = new ProducerRecord<byte[], byte[]>(topic, partition, null, value);
                producer.send(record, (stored, error) -> done.heard(error));
            }

            @Override
            public void flush() {
                producer.flush();
            }

            @Override
            public void close() {
                producer.close(Duration.ofSeconds(5));
            }
        };
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", brokers);
        config.put("max.poll.records", 100_000);
        config.put("max.partition.fetch.bytes", 8 << 20);
        config.put("receive.buffer.bytes", -1);
        config.put("enable.auto.commit", false);
        var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        consumer.assign(all);
        return consumer;
    }

    @Override
    void subscribe(CountDownLatch ready, Taker taker, BooleanSupplier isOver) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.seekToEnd(consumer.assignment());
            consumer.assignment().forEach(consumer::position);
            ready.countDown();
            while (!isOver.getAsBoolean()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    taker.take(record.value());
                }
            }
        }
    }

    @Override
    void drain(int subscribers, CountDownLatch ready, BatchTaker taker, BooleanSupplier isOver) throws Exception {
        var first = new TopicPartition(topic, 0);
        Node leader;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            leader = consumer.partitionsFor(topic).get(0).leader();
        }
        try (var drain = new KafkaDrain(leader, first, subscribers)) {
            ready.countDown();
            drain.run(taker, isOver);
        }
    }

    @Override
    void readAgainAndAgain(long records) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            while (true) {
                consumer.seekToBeginning(consumer.assignment());
                for (long seen = 0; seen < records; ) {
                    long asked = clock.now();
                    if (clock.isOver(asked)) {
                        return;
                    }
                    int count = consumer.poll(POLL).count();
                    if (count > 0) {
                        wereRead(asked, clock.now(), count);
                        seen += count;
                    }
                }
            }
        }
    }
}
