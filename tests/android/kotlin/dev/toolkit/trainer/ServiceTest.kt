package dev.toolkit.trainer

import android.app.ActivityManager
import android.app.AlarmManager
import android.app.Notification
import android.app.NotificationManager
import android.content.ComponentCallbacks2
import android.content.ComponentName
import android.content.ContextWrapper
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.PowerManager
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.BootReceiver
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.shadows.ShadowPowerManager

/** The foreground service: notification, wake lock, policy by the platform's own state, restarts. */
@RunWith(RobolectricTestRunner::class)
class ServiceTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private var service: ServiceController<TrainingService>? = null

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        Fixtures.create(app, "short")
    }

    @After
    fun end() {
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        Fixtures.idle()
        service?.destroy()
    }

    private fun start(intent: Intent?) {
        val created = Robolectric.buildService(TrainingService::class.java, intent).create()
        service = created
        created.get().onStartCommand(intent, 0, 1)
        Fixtures.idle()
    }

    private fun send(action: String, run: String) = service!!.get().onStartCommand(TrainingService.intent(app, action, run), 0, 2)

    private fun train() = await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 && app.controller.active?.doing == Doing.TRAINING }

    private fun ongoing(): Notification? = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification(1)

    private fun text(notification: Notification?) = notification?.extras?.getCharSequence(Notification.EXTRA_TEXT).toString()

    private fun wakeLockHeld() = ShadowPowerManager.getLatestWakeLock()?.isHeld == true

    @Test
    fun `trains in the foreground with progress and actions, then leaves`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        val shadow = shadowOf(service!!.get())
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE, service!!.get().foregroundServiceType)
        val notification = ongoing()!!
        assertEquals(listOf("Pause", "Stop"), notification.actions.map { it.title.toString() })
        assertTrue(text(notification), text(notification).startsWith("Step "))
        assertTrue(notification.flags and Notification.FLAG_ONGOING_EVENT != 0)
        assertTrue(wakeLockHeld())
        shadowOf(notification.actions[0].actionIntent).savedIntent.let { assertEquals(TrainingService.PAUSE, it.action) }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        assertTrue(shadow.isForegroundStopped && shadow.isStoppedBySelf)
        assertFalse(wakeLockHeld())
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("Resume", left.actions.single().title.toString())
    }

    @Test
    fun `a restart by the system continues what went on, and nothing else`() {
        app.runs.save(app.runs.require("short").copy(state = RunState.RUNNING))
        start(null)
        await("the end") { app.controller.active == null }
        val run = app.runs.require("short")
        assertEquals(RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        start(null)
        assertNull(app.controller.active)
        assertTrue(shadowOf(service!!.get()).isStoppedBySelf)
    }

    @Test
    fun `after a reboot the settings decide`() {
        val boot = Intent(Intent.ACTION_BOOT_COMPLETED)
        BootReceiver().onReceive(app, boot)
        assertNull("nothing went on", shadowOf(app).nextStartedService)
        app.runs.save(app.runs.require("a").copy(state = RunState.WAITING))
        BootReceiver().onReceive(app, Intent("some.other.ACTION"))
        assertNull(shadowOf(app).nextStartedService)
        BootReceiver().onReceive(app, boot)
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
        app.policy.write(app.policy.read().copy(continueAfterRestart = false))
        BootReceiver().onReceive(app, boot)
        assertNull(shadowOf(app).nextStartedService)
    }

    @Test
    fun `without the charger a run waits asleep and goes on by itself`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        waitsAndGoesOn(Hold.CHARGER, "Waiting for the charger", { Fixtures.power(false, 80) }, { Fixtures.power(true, 80) })
    }

    @Test
    fun `a low battery holds a run until it is clearly charged`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        waitsAndGoesOn(
            Hold.BATTERY, "Battery at 15 %",
            { Fixtures.power(true, 15) }, { Fixtures.power(true, 30) }, almost = { Fixtures.power(true, 22) },
        )
    }

    @Test
    fun `a hot phone holds a run until it has cooled down`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        val power = shadowOf(app.getSystemService(PowerManager::class.java))
        waitsAndGoesOn(
            Hold.THERMAL, "The phone is hot (thermal status severe)",
            { power.setCurrentThermalStatus(3) }, { power.setCurrentThermalStatus(0) }, almost = { power.setCurrentThermalStatus(1) },
        )
    }

    @Test
    fun `little memory holds a run until there is clearly more`() {
        memory(2000)
        app.policy.write(PolicySettings(minimumFreeMb = 300))
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        // Of the memory that is free while it waits, the run will take its part again.
        waitsAndGoesOn(Hold.MEMORY, "200 MB of memory free", { memory(200) }, { memory(7000) }, almost = { memory(400) })
    }

    @Test
    fun `closes the engine when the system calls for memory`() {
        memory(2000)
        app.policy.write(PolicySettings(minimumFreeMb = 300))
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        @Suppress("DEPRECATION")
        service!!.get().onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        assertEquals("The phone is short of memory, goes on when it has some to spare", text(ongoing()))
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events
        assertTrue("$events", events.any { it.event == "paused" && it.detail.startsWith("The phone is short of memory") })
    }

    private fun alarms() = shadowOf(app.getSystemService(AlarmManager::class.java))

    private fun alarm() = alarms().peekNextScheduledAlarm()

    @Test
    fun `a phone that sleeps is woken to look whether it may go on`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        assertNull("no alarm while it trains", alarm())
        val power = shadowOf(app.getSystemService(PowerManager::class.java))
        power.setCurrentThermalStatus(3)
        await("the wait") { app.controller.active?.doing == Doing.WAITING && alarm() != null }
        val step = app.controller.active!!.progress!!.step
        assertEquals(AlarmManager.ELAPSED_REALTIME_WAKEUP, alarm()!!.getType())
        assertTrue("in doze as well", alarm()!!.isAllowWhileIdle)
        power.setCurrentThermalStatus(0)
        alarms().fireAlarm(alarm()!!)
        service!!.get().onStartCommand(shadowOf(app).nextStartedService, 0, 3)
        assertTrue("awake for the look", wakeLockHeld())
        await("more steps") { (app.controller.active?.progress?.step ?: 0) > step }
        await("no alarm any more") { alarm() == null }
    }

    @Test
    fun `a restart that Android forbids leaves a notification to resume from`() {
        app.runs.save(app.runs.require("a").copy(state = RunState.RUNNING))
        val strict = object : ContextWrapper(app) {
            override fun startForegroundService(service: Intent): ComponentName = throw IllegalStateException("not from the background")
        }
        BootReceiver().onReceive(strict, Intent(Intent.ACTION_BOOT_COMPLETED))
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("a was interrupted", left.extras.getCharSequence(Notification.EXTRA_TITLE))
        assertEquals(TrainingService.START, shadowOf(left.actions.single().actionIntent).savedIntent.action)
    }

    private fun memory(mb: Long) = shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(
        ActivityManager.MemoryInfo().apply {
            availMem = mb * 1_000_000
            totalMem = 8_000_000_000
        },
    )

    private fun waitsAndGoesOn(hold: Hold, words: String, worse: () -> Unit, better: () -> Unit, almost: (() -> Unit)? = null) {
        worse()
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        val step = app.controller.active!!.progress!!.step
        assertEquals(hold, app.controller.active?.waiting?.hold)
        assertEquals(RunState.WAITING, app.runs.require("a").state)
        assertTrue(text(ongoing()), text(ongoing()).startsWith(words))
        assertFalse("asleep while it waits", wakeLockHeld())
        if (almost != null) {
            almost()
            app.controller.recheck()
            Thread.sleep(200)
            assertEquals(Doing.WAITING, app.controller.active?.doing)
        }
        better()
        service!!.get().onTrimMemory(0) // makes the policy look at once
        await("more steps") { (app.controller.active?.progress?.step ?: 0) > step }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events
        assertNotNull("$events", events.find { it.event == "paused" && it.detail.startsWith(words) })
        assertNotNull("$events", events.find { it.event == "resumed" && it.detail == hold.over })
    }

    @Test
    fun `waits at once when it is started in bad conditions, and can be paused there`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        assertEquals(RunState.PAUSED, app.runs.require("a").state)

        // The trace was closed all the while; it gets the reasons when the engine opens it.
        Fixtures.power(true, 80)
        send(TrainingService.START, "a")
        train()
        send(TrainingService.PAUSE, "a")
        await("the second pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events.filter { it.event == "paused" }
        assertEquals(listOf("Waiting for the charger", "by the user", "by the user"), events.map { it.detail })
    }

    @Test
    fun `a second hold while it waits is in the trace as well`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.waiting?.hold == Hold.CHARGER }
        Fixtures.power(true, 10)
        await("the other wait") { app.controller.active?.waiting?.hold == Hold.BATTERY }
        Fixtures.power(true, 80)
        train()
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events.map { it.detail }
        assertEquals("Waiting for the charger", events[0])
        assertEquals("Battery at 10 %, goes on at 25 %", events[1])
        assertEquals(Hold.BATTERY.over, events[2])
    }
}
