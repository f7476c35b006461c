// The peer Boost.Beast: echo or broadcast with asynchronous calls, one thread, no extensions, the time limits that its
// documentation suggests. beast MODE PORT; prints "port N".
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <unordered_set>

namespace beast = boost::beast;
namespace websocket = beast::websocket;
namespace net = boost::asio;
using tcp = net::ip::tcp;

class session;
static std::unordered_set<session *> sessions;
static bool is_broadcast;

class session : public std::enable_shared_from_this<session> {
    struct message {
        std::string data;
        bool is_text;
    };
    websocket::stream<beast::tcp_stream> stream_;
    beast::flat_buffer buffer_;
    std::deque<std::shared_ptr<const message>> waiting_;

    void read() {
        stream_.async_read(buffer_, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error) self->on_message();
        });
    }

    void on_message() {
        if (!is_broadcast) {
            echo();
            return;
        }
        auto all = std::make_shared<const message>(message{beast::buffers_to_string(buffer_.data()), stream_.got_text()});
        buffer_.consume(buffer_.size());
        for (session *one : sessions) one->send(all);
        read();
    }

    void echo() {
        stream_.text(stream_.got_text());
        stream_.async_write(buffer_.data(), [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (error) return;
            self->buffer_.consume(self->buffer_.size());
            self->read();
        });
    }

    void send(const std::shared_ptr<const message> &one) {
        waiting_.push_back(one);
        if (waiting_.size() == 1) write();
    }

    void write() {
        stream_.text(waiting_.front()->is_text);
        stream_.async_write(net::buffer(waiting_.front()->data),
                            [self = shared_from_this()](beast::error_code error, std::size_t) {
                                if (error) return;
                                self->waiting_.pop_front();
                                if (!self->waiting_.empty()) self->write();
                            });
    }

public:
    explicit session(tcp::socket socket) : stream_(std::move(socket)) {}
    ~session() { sessions.erase(this); }

    void start() {
        stream_.set_option(websocket::stream_base::timeout::suggested(beast::role_type::server));
        stream_.auto_fragment(false);
        stream_.read_message_max(16 << 20);
        stream_.async_accept([self = shared_from_this()](beast::error_code error) {
            if (error) return;
            sessions.insert(self.get());
            self->read();
        });
    }
};

class listener {
    tcp::acceptor acceptor_;

public:
    listener(net::io_context &context, unsigned short port) : acceptor_(context) {
        acceptor_.open(tcp::v4());
        acceptor_.set_option(net::socket_base::reuse_address(true));
        acceptor_.bind({tcp::v4(), port});
        acceptor_.listen(4096);
    }

    int port() const { return acceptor_.local_endpoint().port(); }

    void accept() {
        acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
            beast::error_code ignored;
            if (!error) {
                socket.set_option(tcp::no_delay(true), ignored);
                std::make_shared<session>(std::move(socket))->start();
            }
            accept();
        });
    }
};

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    is_broadcast = std::string(argv[1]) == "broadcast";
    net::io_context context{1};
    listener all{context, static_cast<unsigned short>(std::atoi(argv[2]))};
    all.accept();
    std::printf("port %d\n", all.port());
    std::fflush(stdout);
    context.run();
}
