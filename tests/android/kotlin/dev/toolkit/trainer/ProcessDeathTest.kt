package dev.toolkit.trainer

import android.content.Intent
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.MainActivity
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import java.io.File
import java.nio.file.Files
import java.util.concurrent.TimeUnit

private const val SHARED = "toolkit.killed.folder"
private const val KILLED_AT = 5L

/** A process that trains is killed, and another one goes on from its files. */
@RunWith(RobolectricTestRunner::class)
class ProcessDeathTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `a new process goes on from the last save of a killed one`() {
        val shared = temporary.newFolder("shared")
        kill(startVictim(shared))
        val app = Fixtures.deploy(temporary)
        shareRuns(app, shared)
        val left = app.runs.require("a")
        assertEquals("its record says that it was training", RunState.RUNNING, left.state)
        assertTrue("in the middle", TraceReader(left.trace).read().steps.last().step in KILLED_AT until 8)

        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the run's card") { Pictures.text(screen.get(), "Interrupted") }
        // The system starts a sticky service again without an intent.
        val service = Robolectric.buildService(TrainingService::class.java, null as Intent?).create()
        service.get().onStartCommand(null, 0, 1)
        await("the end") { app.controller.active == null && app.runs.require("a").state == RunState.COMPLETED }
        assertSameAsUninterrupted(app.runs.require("a"))
        service.destroy()
        screen.close()
    }

    private fun assertSameAsUninterrupted(run: Run) {
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        assertEquals((1L..8L).toList(), TraceReader(run.trace).read().steps.map { it.step })
        assertTrue("from the save at step 3", "\"resumed_from\":3" in run.trace.readText())
    }

    private fun startVictim(shared: File): Process {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val properties = listOf(
            "java.library.path", "robolectric.offline", "robolectric.dependency.dir", "toolkit.fixtures", "toolkit.screenshots",
        ).map { "-D$it=${System.getProperty(it)}" }
        val command = listOf(java, "-Xmx1g", "-XX:+UseSerialGC", "-D$SHARED=${shared.path}") + properties +
            listOf("-cp", System.getProperty("java.class.path"), "org.junit.runner.JUnitCore", Victim::class.java.name)
        return ProcessBuilder(command).redirectErrorStream(true).redirectOutput(File(shared, "log")).start()
    }

    private fun kill(victim: Process) {
        val mark = File(temporary.root, "shared/reached")
        val log = File(temporary.root, "shared/log")
        val end = System.nanoTime() + 180_000_000_000L
        while (!mark.exists()) {
            assertTrue("the process ended early:\n${log.readText()}", victim.isAlive)
            assertTrue("the process never got there:\n${log.readText()}", System.nanoTime() < end)
            Thread.sleep(20)
        }
        // SIGKILL: nothing of the process gets to tidy up.
        victim.destroyForcibly()
        assertTrue(victim.waitFor(20, TimeUnit.SECONDS))
        assertEquals(128 + 9, victim.exitValue())
        assertFalse(victim.isAlive)
    }
}

private fun shareRuns(app: TrainerApp, shared: File) {
    app.folders.runs.parentFile!!.mkdirs()
    Files.createSymbolicLink(app.folders.runs.toPath(), File(shared, "runs").also { it.mkdirs() }.toPath())
}

/** The process to be killed: trains up to a step and holds its breath there. Does nothing among the other tests. */
@RunWith(RobolectricTestRunner::class)
class Victim {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `trains until it is killed`() {
        val folder = System.getProperty(SHARED)
        assumeTrue(folder != null)
        val shared = File(folder!!)
        val app = Fixtures.deploy(temporary)
        shareRuns(app, shared)
        Fixtures.create(app, "a")
        app.controller.addListener {
            if (app.controller.active?.progress?.step == KILLED_AT) {
                File(shared, "reached").createNewFile()
                Thread.sleep(600_000)
            }
        }
        app.controller.start("a")
        app.controller.join(600_000)
    }
}
