// client: Java's HttpClient | needs: java | of: Java | transport: WebSocket | checks: calls
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.Base64;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;

class Main {
    public static void main(String[] arguments) throws Exception {
        var credentials = (arguments[1] + ":" + arguments[2]).getBytes();
        var answer = new CompletableFuture<String>();
        var socket = HttpClient.newHttpClient().newWebSocketBuilder()
            .header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials))
            .buildAsync(URI.create(arguments[0].replaceAll("//.*@", "//")), new WebSocket.Listener() {
                public CompletionStage<?> onText(WebSocket from, CharSequence text, boolean last) {
                    answer.complete(text.toString());
                    return null;
                }
            }).get();
        socket.sendText("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"getblockcount\"}", true);
        System.out.println(answer.get(10, TimeUnit.SECONDS).replaceAll("(?s).*\"result\":(\\d+).*", "$1"));
        socket.sendClose(1000, "").get();
    }
}
