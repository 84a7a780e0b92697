import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.nio.channels.Channel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** A small HTTP server on the one socket that Java can inherit: descriptor 0. */
public class Server {
    static final String GENERATION = System.getenv().getOrDefault("SERVER_STARTER_GENERATION", "0");
    static volatile boolean closing;

    public static void main(String[] arguments) throws Exception {
        Channel inherited = System.inheritedChannel();
        if (!(inherited instanceof ServerSocketChannel)) {
            System.err.println("descriptor 0 is no listening socket");
            System.exit(1);
        }
        ServerSocketChannel listener = (ServerSocketChannel) inherited;
        ExecutorService pool = Executors.newFixedThreadPool(16);
        Selector selector = Selector.open();
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);

        CountDownLatch drained = new CountDownLatch(1);
        // Runs at TERM; the process ends when it returns.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            closing = true;
            selector.wakeup();
            try {
                drained.await(30, TimeUnit.SECONDS);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }));
        while (!closing) {
            selector.select();
            selector.selectedKeys().clear();
            SocketChannel connection = closing ? null : listener.accept();
            // Another generation may have been faster.
            if (connection != null) {
                pool.submit(() -> serve(connection));
            }
        }
        pool.shutdown();
        pool.awaitTermination(25, TimeUnit.SECONDS);
        drained.countDown();
    }

    static void serve(SocketChannel connection) {
        try (connection) {
            connection.setOption(StandardSocketOptions.TCP_NODELAY, true);
            Socket socket = connection.socket();
            // An idle connection is closed after a second, so it cannot hold up the end.
            socket.setSoTimeout(1000);
            InputStreamReader bytes = new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII);
            BufferedReader lines = new BufferedReader(bytes);
            OutputStream out = socket.getOutputStream();
            for (String request = lines.readLine(); request != null; request = lines.readLine()) {
                boolean last = false;
                for (String header = lines.readLine(); header != null && !header.isEmpty(); header = lines.readLine()) {
                    last |= header.equalsIgnoreCase("Connection: close");
                }
                if (request.startsWith("GET /slow ")) {
                    Thread.sleep(300);
                }
                last |= closing;
                out.write(answer(last));
                if (last) {
                    return;
                }
            }
        } catch (IOException | InterruptedException gone) {
            // The client has gone, or has been idle for too long.
        }
    }

    static byte[] answer(boolean last) {
        long pid = ProcessHandle.current().pid();
        String body = "hello from generation " + GENERATION + ", process " + pid + "\n";
        String head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + body.length()
                + "\r\nConnection: " + (last ? "close" : "keep-alive") + "\r\n\r\n";
        return (head + body).getBytes(StandardCharsets.US_ASCII);
    }
}
