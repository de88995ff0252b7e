// client: Java's HttpClient | needs: java | of: Java | transport: HTTP | checks: calls
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Base64;

class Main {
    public static void main(String[] arguments) throws Exception {
        var credentials = (arguments[1] + ":" + arguments[2]).getBytes();
        var request = HttpRequest.newBuilder(URI.create(arguments[0] + "/"))
            .header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials))
            .POST(HttpRequest.BodyPublishers.ofString("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"getblockcount\"}"))
            .build();
        var body = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
        System.out.println(body.replaceAll("(?s).*\"result\":(\\d+).*", "$1"));
    }
}
