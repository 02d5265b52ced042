# lockstep_room(NAME SOURCES a.cc … DEPS lib …): one library a room, NAME as in common_base; the walls between rooms
# are what DEPS leaves out, and tests/walls scans the includes for the rest.
function(lockstep_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ROOM_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ROOM_DEPS} PRIVATE ${ROOM_PRIVATE_DEPS})
endfunction()

# lockstep_test(NAME SOURCES a_test.cc … DEPS room … [RANKS 1 2 …] [LABELS l …] [TIMEOUT s]):
# a GoogleTest binary. With RANKS it is run under mpirun once for each number, and brings its own main; without, it is
# linked with gtest_main.
function(lockstep_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;DEPS;RANKS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  add_executable(${name} ${TEST_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(source ${TEST_SOURCES})
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
    set_property(GLOBAL APPEND PROPERTY LOCKSTEP_TEST_SOURCES ${source})
  endforeach()
  if(NOT TEST_RANKS)
    target_link_libraries(${name} PRIVATE ${TEST_DEPS} GTest::gtest GTest::gmock GTest::gtest_main Threads::Threads)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT} LABELS "${TEST_LABELS}"
      ENVIRONMENT "${LOCKSTEP_SANITIZER_OPTIONS}")
    return()
  endif()
  target_link_libraries(${name} PRIVATE ${TEST_DEPS} GTest::gtest GTest::gmock Threads::Threads)
  foreach(ranks ${TEST_RANKS})
    add_test(NAME ${name}.np${ranks}
      COMMAND ${PROJECT_SOURCE_DIR}/tests/support/mpirun.sh ${ranks} $<TARGET_FILE:${name}>
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name}.np${ranks} PROPERTIES TIMEOUT ${TEST_TIMEOUT} PROCESSORS ${ranks} LABELS "mpi;${TEST_LABELS}"
      ENVIRONMENT "OMP_NUM_THREADS=1")
  endforeach()
endfunction()

# A *_test.cc that no target builds is an error: a test that is not run looks like a test that passes.
function(lockstep_check_every_test_has_a_target)
  get_property(built GLOBAL PROPERTY LOCKSTEP_TEST_SOURCES)
  get_property(left_out GLOBAL PROPERTY LOCKSTEP_TEST_SOURCES_LEFT_OUT)
  file(GLOB_RECURSE written CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*_test.cc)
  foreach(source ${written})
    if(NOT source IN_LIST built AND NOT source IN_LIST left_out)
      message(FATAL_ERROR "${source} belongs to no test target: add it with lockstep_test() in its folder's CMakeLists.txt")
    endif()
  endforeach()
endfunction()
