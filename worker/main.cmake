lockstep_room(worker_communication SOURCES communication.cc DEPS worker_optim worker_comm common_base lockstep_proto)
add_executable(lockstep-worker main.cc bench_main.cc rank.cc)
target_link_libraries(lockstep-worker PRIVATE worker_bench worker_communication worker_train worker_model worker_comm
  worker_coordinator_client common_config
  common_data common_base CLI11::CLI11 ${CMAKE_DL_LIBS})
lockstep_torch_target(lockstep-worker)
lockstep_without_torch(bench_main.cc main.cc)
set_target_properties(lockstep-worker PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
install(TARGETS lockstep-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
