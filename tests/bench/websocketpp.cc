// The peer WebSocket++ on Asio: echo or broadcast, one thread, no locks, no logs, no extensions.
// websocketpp MODE PORT; prints "port N".
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <websocketpp/concurrency/none.hpp>
#include <websocketpp/config/asio_no_tls.hpp>
#include <websocketpp/logger/stub.hpp>
#include <websocketpp/server.hpp>

struct tuned : public websocketpp::config::asio {
    typedef tuned type;
    typedef websocketpp::config::asio base;
    typedef websocketpp::concurrency::none concurrency_type;
    typedef base::request_type request_type;
    typedef base::response_type response_type;
    typedef base::message_type message_type;
    typedef base::con_msg_manager_type con_msg_manager_type;
    typedef base::endpoint_msg_manager_type endpoint_msg_manager_type;
    typedef websocketpp::log::stub alog_type;
    typedef websocketpp::log::stub elog_type;
    typedef base::rng_type rng_type;
    struct transport_config : public base::transport_config {
        typedef type::concurrency_type concurrency_type;
        typedef type::alog_type alog_type;
        typedef type::elog_type elog_type;
        typedef type::request_type request_type;
        typedef type::response_type response_type;
        typedef websocketpp::transport::asio::basic_socket::endpoint socket_type;
        static bool const enable_multithreading = false;
    };
    typedef websocketpp::transport::asio::endpoint<transport_config> transport_type;
    static const size_t connection_read_buffer_size = 16384;
};

typedef websocketpp::server<tuned> server;
typedef websocketpp::connection_hdl handle;

static server endpoint;
static std::set<handle, std::owner_less<handle>> handles;

static void on_echo(handle to, server::message_ptr message) {
    endpoint.send(to, message);
}

static void on_broadcast(handle, server::message_ptr message) {
    for (const handle &to : handles) endpoint.send(to, message->get_payload(), message->get_opcode());
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    endpoint.init_asio();
    endpoint.set_reuse_addr(true);
    endpoint.set_listen_backlog(4096);
    endpoint.set_max_message_size(16 << 20);
    endpoint.set_socket_init_handler([](handle, boost::asio::ip::tcp::socket &socket) {
        boost::system::error_code ignored;
        socket.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
    });
    endpoint.set_open_handler([](handle h) { handles.insert(h); });
    endpoint.set_close_handler([](handle h) { handles.erase(h); });
    endpoint.set_message_handler(std::string(argv[1]) == "broadcast" ? on_broadcast : on_echo);
    endpoint.listen(boost::asio::ip::tcp::v4(), static_cast<uint16_t>(std::atoi(argv[2])));
    endpoint.start_accept();
    websocketpp::lib::asio::error_code error;
    std::printf("port %d\n", endpoint.get_local_endpoint(error).port());
    std::fflush(stdout);
    endpoint.run();
}
