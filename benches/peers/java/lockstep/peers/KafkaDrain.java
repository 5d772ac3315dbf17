package lockstep.peers;

import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.util.Map;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.FetchResponseData.PartitionData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.FetchRequest;
import org.apache.kafka.common.requests.FetchResponse;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;

/**
 * Many subscribers to one partition, on one thread and as thin as can be: each has a connection and one fetch that waits
 * for more, and looks at the first record of each batch. A thousand of Kafka's consumers would cost the machine more than
 * the brokers do.
 */
final class KafkaDrain implements AutoCloseable {
    /** The last that names topics. */
    private static final short VERSION = 12;
    private static final int SIZE_BYTES = 4;
    private static final int BUFFER_BYTES = 64 << 10;
    /** What Kafka's consumer asks for by itself, and what ours in `KafkaLoad` does. */
    private static final int WAIT_MS = 500;
    private static final int BYTES_MIN = 1;
    private static final int BYTES_MAX = 8 << 20;
    private static final long SELECT_MS = 100;

    private final TopicPartition partition;
    private final Selector selector = Selector.open();

    KafkaDrain(Node leader, TopicPartition partition, int subscribers) throws IOException {
        this.partition = partition;
        for (int subscriber = 0; subscriber < subscribers; subscriber++) {
            var channel = SocketChannel.open(new InetSocketAddress(leader.host(), leader.port()));
            channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_READ, new Subscriber(channel));
        }
    }

    /** Hands batches over, of all subscribers, until it is over. */
    void run(Load.BatchTaker taker, BooleanSupplier isOver) throws IOException {
        for (SelectionKey key : selector.keys()) {
            ((Subscriber) key.attachment()).ask();
        }
        while (!isOver.getAsBoolean()) {
            selector.select(SELECT_MS);
            for (SelectionKey key : selector.selectedKeys()) {
                ((Subscriber) key.attachment()).read(taker);
            }
            selector.selectedKeys().clear();
        }
    }

    @Override
    public void close() throws IOException {
        for (SelectionKey key : selector.keys()) {
            key.channel().close();
        }
        selector.close();
    }

    private final class Subscriber {
        private final SocketChannel channel;
        private ByteBuffer arrived = ByteBuffer.allocate(BUFFER_BYTES);
        private int asked;
        private long offset;

        Subscriber(SocketChannel channel) {
            this.channel = channel;
        }

        void ask() throws IOException {
            var wanted = new FetchRequest.PartitionData(Uuid.ZERO_UUID, offset, -1, BYTES_MAX, Optional.empty());
            var request = FetchRequest.Builder.forConsumer(VERSION, WAIT_MS, BYTES_MIN, Map.of(partition, wanted))
                    .build(VERSION);
            var header = new RequestHeader(ApiKeys.FETCH, VERSION, "drain", ++asked);
            ByteBuffer body = request.serializeWithHeader(header);
            ByteBuffer frame = ByteBuffer.allocate(SIZE_BYTES + body.remaining());
            frame.putInt(body.remaining()).put(body).flip();
            while (frame.hasRemaining()) {
                channel.write(frame);
            }
        }

        void read(Load.BatchTaker taker) throws IOException {
            if (channel.read(arrived) < 0) {
                throw new EOFException("a broker closed a connection");
            }
            arrived.flip();
            while (arrived.remaining() >= SIZE_BYTES) {
                int size = arrived.getInt(arrived.position());
                if (arrived.remaining() < SIZE_BYTES + size) {
                    makeRoomFor(SIZE_BYTES + size);
                    return;
                }
                ByteBuffer answer = arrived.slice(arrived.position() + SIZE_BYTES, size);
                arrived.position(arrived.position() + SIZE_BYTES + size);
                take(answer, taker);
                ask();
            }
            arrived.compact();
        }

        private void makeRoomFor(int bytes) {
            if (bytes <= arrived.capacity()) {
                arrived.compact();
                return;
            }
            arrived = ByteBuffer.allocate(bytes).put(arrived);
        }

        private void take(ByteBuffer answer, Load.BatchTaker taker) {
            ResponseHeader.parse(answer, ApiKeys.FETCH.responseHeaderVersion(VERSION));
            var response = FetchResponse.parse(new ByteBufferAccessor(answer), VERSION).data();
            PartitionData data = response.responses().get(0).partitions().get(0);
            Errors.forCode(data.errorCode()).maybeThrow();
            for (RecordBatch batch : FetchResponse.recordsOrFail(data).batches()) {
                if (batch.lastOffset() >= offset) {
                    offset = batch.lastOffset() + 1;
                    taker.take(batch.iterator().next().value(), batch.lastOffset() - batch.baseOffset() + 1);
                }
            }
        }
    }
}
