package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Fixtures.options
import dev.toolkit.trainer.engine.ChildHost
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.Side
import dev.toolkit.trainer.store.BUNDLE_FORMAT_VERSION
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.concurrent.thread

/** The engine that `make android` packs, as a child of the app: in a process that finds no libtoolkit_jni.so. */
@RunWith(RobolectricTestRunner::class)
class ChildEngineTest : ChildCase() {
    @Test
    fun `a dry run tells what a run will hold, and leaves nothing`() {
        DryRuns.check(temporary.root)
        assertTrue("it has ended", Children.ids().isEmpty())
    }

    @Test
    fun `a run that waits for room in the storage says so, and goes on by itself`() = FullDisk(temporary).use { disk ->
        disk.trainThrough(app) {}
    }

    @Test
    fun `trains to the same bits as the command line, and says what it is`() {
        val out = File(temporary.root, "läuft-東京-🙂")
        Engine.open(options(out)).use { trainer ->
            assertEquals(0, trainer.progress().step)
            assertEquals(1, Children.ids().size)
            while (trainer.step()) assertTrue(trainer.progress().loss > 0)
            assertEquals(8, trainer.progress().step)
            assertFalse(trainer.progress().running)
            assertFalse(trainer.step())
        }
        assertArrayEquals(Fixtures.referenceAdapter(), File(out, "adapter_model.safetensors").readBytes())
        assertEquals(BUNDLE_FORMAT_VERSION, Engine.info().getInt("format_version"))
        await("no child") { Children.ids().isEmpty() }
    }

    @Test
    fun `one at a time, with the engine's words when something is wrong`() {
        Engine.open(options(File(temporary.root, "a"))).use {
            val error = assertThrows(EngineException::class.java) { Engine.open(options(File(temporary.root, "b"))) }
            assertTrue("another run is open" in error.message!!)
        }
        val missing = options(File(temporary.root, "c")) + ("bundle" to File(temporary.root, "fehlt-🙂").path)
        val error = assertThrows(EngineException::class.java) { Engine.open(missing) }
        assertTrue(error.message, "fehlt-🙂" in error.message!!)
        assertEquals(1, error.status)
        val usage = assertThrows(EngineException::class.java) { Engine.open(options(File(temporary.root, "c")) + ("steps" to "many")) }
        assertEquals(2, usage.status)
        Engine.open(options(File(temporary.root, "d"))).close()
        assertFalse(ChildHost.isIn(temporary.root))
    }

    @Test
    fun `may be stopped and closed from other threads while it steps`() {
        repeat(4) { round ->
            val trainer = Engine.open(options(File(temporary.root, "run$round"), steps = 100_000))
            val steps = thread { runCatching { while (trainer.step()) Unit } }
            Thread.sleep(30)
            if (round % 2 == 0) trainer.requestStop()
            trainer.close()
            trainer.close()
            trainer.requestStop()
            trainer.note("paused", "too late")
            steps.join(20_000)
            assertFalse(steps.isAlive)
            assertThrows(EngineException::class.java) { trainer.step() }
            assertThrows(EngineException::class.java) { trainer.progress() }
            await("no child") { Children.ids().isEmpty() }
        }
    }

    @Test
    fun `a run that pauses and goes on is the command line's, with its notes in the trace`() {
        Fixtures.create(app, "a")
        // Once: what goes on begins at the step it was paused at.
        val paused = AtomicBoolean()
        app.controller.addListener {
            if (app.controller.active?.progress?.step == 4L && paused.compareAndSet(false, true)) app.controller.pause()
        }
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        val events = TraceReader(run.trace).read().events
        assertTrue("$events", events.any { it.event == "paused" && it.detail == "by the user" })
    }

    @Test
    fun `an engine that is killed alone makes the run wait for memory and go on from its last save`() {
        Fixtures.create(app, "a")
        var killed = false
        val kill: () -> Unit = {
            // After the save at 3, before the one at 6.
            val active = app.controller.active
            if (active?.progress?.step == 5L && active.doing == Doing.TRAINING && !killed) {
                killed = true
                Children.kill()
            }
        }
        app.controller.addListener(kill)
        app.controller.start("a")
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        val active = app.controller.active!!
        assertEquals(Hold.MEMORY, active.waiting!!.hold)
        assertEquals("what was lost is not shown as done", 3L, active.progress!!.step)
        await("the record") { app.runs.require("a").state == RunState.WAITING }
        val waiting = app.runs.require("a")
        assertEquals(3L, waiting.step)
        assertEquals(1, waiting.attempts)
        assertTrue(waiting.reason, "most likely for want of memory" in waiting.reason)
        assertEquals("no engine meanwhile", 0, Children.ids().size)
        // Not before its time, and then by itself.
        Fixtures.advance(30_000)
        app.controller.recheck()
        // As much real time as the run would need to open an engine.
        repeat(100) {
            assertEquals(Doing.WAITING to 0, app.controller.active?.doing to Children.ids().size)
            Thread.sleep(10)
        }
        Fixtures.advance(60_000)
        app.controller.recheck()
        assertTrue(app.controller.join(60_000))
        app.controller.removeListener(kill)
        assertTrue(killed)
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertEquals(0, run.attempts)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        val trace = TraceReader(run.trace).read()
        assertEquals((1L..8L).toList(), trace.steps.map { it.step })
        val told = trace.events.dropWhile { it.event != "paused" }.filter { it.event != "saved" }.map { it.event to it.detail }
        assertEquals(listOf("paused" to waiting.reason, "resumed" to "enough memory is free"), told)
    }

    @Test
    fun `an engine that is killed again and again without anything saved ends the run with the reason`() {
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000, saveEvery = 100_000))
        app.controller.start("a")
        repeat(3) { time ->
            await("a step") { app.controller.active?.let { it.doing == Doing.TRAINING && (it.progress?.step ?: 0) > 1 } == true }
            Children.kill()
            if (time < 2) {
                await("the wait") { app.controller.active?.doing == Doing.WAITING }
                // Whoever waits for it may try at once; that does not count as another try's success.
                app.controller.goOn()
            }
        }
        assertTrue(app.controller.join(30_000))
        val run = app.runs.require("a")
        assertEquals(RunState.FAILED, run.state)
        assertTrue(run.reason, "Run “a” was ended 3 times" in run.reason && "most likely the phone had too little memory" in run.reason)
        assertEquals(0, run.attempts)
        assertEquals(0L, run.step)
        app.controller.start("a")
        await("more steps") { (app.controller.active?.progress?.step ?: 0) > 0 }
    }

    @Test
    fun `a run that is paused is paused, though its engine is killed for the third time while it saves`() {
        app.runs.save(Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000, saveEvery = 100_000)).copy(attempts = 2))
        app.controller.start("a")
        await("a step") { app.controller.active?.let { it.doing == Doing.TRAINING && (it.progress?.step ?: 0) > 1 } == true }
        Children.kill("-STOP")
        app.controller.pause()
        Children.kill()
        assertTrue(app.controller.join(30_000))
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.PAUSED to "", run.state to run.reason)
        assertEquals("nothing was saved", 0L, run.step)
    }

    @Test
    fun `an engine that is killed in its first step comes back when what it takes is free, or after half an hour`() {
        Fixtures.create(app, "a", Fixtures.reference.copy(gradientAccumulation = 400))
        memory(0)
        app.controller.start("a")
        await("its first step") { app.controller.active?.doing == Doing.TRAINING && Children.ids().size == 1 }
        assertEquals("no peak was measured", 0L, app.controller.active!!.progress!!.peakKib)
        Children.kill()
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        assertEquals("what it will take is asked again", 0L, app.runs.require("a").peakMb)
        val need = Engine.dryRun(options(File(temporary.root, "b")) + ("grad-accum" to "400")).getLong("peak_bytes") / 1_000_000
        val stays = { what: String ->
            app.controller.recheck()
            repeat(30) {
                assertEquals(what, Doing.WAITING, app.controller.active?.doing)
                Thread.sleep(10)
            }
        }
        memory(2 * need)
        Fixtures.advance(30_000)
        stays("not before its time")
        memory(need)
        Fixtures.advance(1_200_000)
        stays("not without a quarter to spare")
        assertTrue(app.controller.active!!.waiting!!.text, "of memory" in app.controller.active!!.waiting!!.text)
        Fixtures.advance(1_200_000)
        app.controller.recheck()
        await("the engine") { app.controller.active?.doing == Doing.TRAINING }
    }

    /** An engine that does what a script says. */
    private fun pretended(script: String): File = temporary.newFolder().also { folder ->
        File(folder, "libtrainer.so").createNewFile()
        File(folder, "libld-sh.so").run {
            writeText("#!/bin/sh\n$script\n")
            setExecutable(true)
        }
    }

    @Test
    fun `what a dry run is answered with is its last line, and ends no run whatever it is`() {
        val out = File(temporary.root, "b")
        assertEquals(7, ChildHost(pretended("""echo '{"odd'; echo '{"peak_bytes": 7}'""")).dryRun(options(out)).getInt("peak_bytes"))
        Fixtures.create(app, "a")
        val loader = libraries.listFiles()!!.single { it.name.startsWith("libld-") }
        val engine = "exec $loader --library-path $libraries $libraries/libtrainer.so train --driven"
        Engine.attach(pretended("case \"${'$'}*\" in *dry-run*) echo nonsense;; *) $engine;; esac"))
        app.controller.start("a")
        assertTrue(app.controller.join(30_000))
        assertEquals(RunState.COMPLETED, app.runs.require("a").state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("a")))
    }

    @Test
    fun `a dry run that takes its time is ended by a run, and by a screen that is left`() {
        val first = File(temporary.root, "first")
        Engine.attach(pretended("""if [ -e $first ]; then exit 3; fi; touch $first; exec sleep 60"""))
        val began = System.nanoTime()
        val asked = thread { runCatching { app.controller.needs(app.bundles.require("tiny"), app.data.require("rows"), Fixtures.reference) } }
        await("the dry run") { first.exists() }
        Fixtures.create(app, "a")
        app.controller.start("a")
        assertTrue("its turn", app.controller.join(20_000))
        asked.join(20_000)
        first.delete()
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        await("the dry run") { first.exists() }
        screen.pause().stop()
        assertEquals("the engine is free", 7, app.controller.alone { 7 })
        screen.close()
        assertTrue("not after the minute", System.nanoTime() - began < 50_000_000_000)
    }

    @Test
    fun `a dry run that a run waits for is ended by a word to pause it`() {
        val begun = File(temporary.root, "begun")
        Engine.attach(pretended("""touch $begun; exec sleep 60"""))
        Fixtures.create(app, "a")
        app.controller.start("a")
        await("the dry run") { begun.exists() }
        app.controller.pause()
        assertTrue("not after the minute", app.controller.join(20_000))
        assertEquals(RunState.PAUSED to "", app.runs.require("a").run { state to reason })
    }

    @Test
    fun `a model is asked before and after, as the command line asks it`() {
        Fixtures.talker(app)
        val expected = Fixtures.replies()
        var most = 0
        app.asking.addListener { most = maxOf(most, Children.ids().size) }
        app.asking.ask("talks", expected.getString("prompt"))
        await("the answers") { !app.asking.errand.running }
        assertEquals(expected.getString("before"), app.asking.answer(Side.BEFORE)!!.text)
        assertEquals(expected.getString("after"), app.asking.answer(Side.AFTER)!!.text)
        assertEquals("one engine", 1, most)
        await("no child") { Children.ids().isEmpty() }
    }

    @Test
    fun `a model that cannot be opened says why, and one that is killed ends nothing`() {
        val bundle = mapOf("bundle" to File(Fixtures.folder, "bundles/words").path, "adapter" to "none", "threads" to "1")
        val missing = assertThrows(EngineException::class.java) { Engine.generator(bundle + ("bundle" to File(temporary.root, "fehlt-🙂").path)) }
        assertTrue(missing.message, "fehlt-🙂" in missing.message!!)
        Engine.generator(bundle).use { model ->
            val second = assertThrows(EngineException::class.java) { Engine.open(options(File(temporary.root, "b"))) }
            assertTrue("open in this app" in second.message!!)
            model.set(mapOf("max-tokens" to "0"))
            // Found before it begins: the reply is one of milliseconds.
            val engines = Children.ids().map { ProcessHandle.of(it.toString().toLong()).get() }
            val killed = assertThrows(EngineException::class.java) {
                model.reply(intArrayOf(5, 6, 7)) {
                    // What it had said before still comes.
                    engines.forEach { it.destroyForcibly() }
                    true
                }
            }
            assertTrue(killed.message, "want of memory" in killed.message!!)
        }
        Engine.generator(bundle).use { model ->
            model.set(mapOf("temperature" to "hot"))
            assertEquals(2, assertThrows(EngineException::class.java) { model.reply(intArrayOf(5)) { true } }.status)
        }
        await("no child") { Children.ids().isEmpty() }
    }

    @Test
    fun `the settings say where the engine runs`() {
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        await("the words") { Pictures.text(screen.get(), "in a process of its own") }
        screen.close()
    }
}
